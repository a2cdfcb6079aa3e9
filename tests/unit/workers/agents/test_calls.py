"""Coroutine agents run on the loop, plain ones in threads of their own."""

import asyncio
import contextvars
import functools
import threading

import pytest

from hermesd.workers.agents.calls import TurnInterrupted, has, optional, run_turn
from hermesd.workers.agents.contract import Turn

TURN = Turn("t1", "hello", "u")


class Heard:
    def __init__(self):
        self.deltas = []
        self.asked = asyncio.Event()

    async def delta(self, text):
        self.deltas.append((text, threading.current_thread()))

    async def ask(self, question, choices=(), timeout=0.0):
        self.asked.set()
        await asyncio.Event().wait()


class Agent:
    """Has exactly the methods it is given."""

    def __init__(self, **methods):
        for name, method in methods.items():
            setattr(self, name, method)


async def test_a_coroutine_agent_runs_on_the_loop():
    heard = Heard()

    async def turn(turn, out):
        await out.delta(turn.text)
        return threading.current_thread().name

    assert await run_turn(Agent(turn=turn), TURN, heard) == threading.main_thread().name
    assert heard.deltas == [("hello", threading.main_thread())]


async def test_a_plain_agent_runs_in_a_thread_with_the_context_of_its_caller():
    heard, who = Heard(), contextvars.ContextVar("who", default="nobody")
    who.set("ann")

    def turn(turn, out):
        out.delta(f"{who.get()} says {turn.text}")
        return threading.current_thread().name

    name = await run_turn(Agent(turn=turn), TURN, heard)
    assert name == "turn t1"
    assert heard.deltas == [("ann says hello", threading.main_thread())]


async def test_a_plain_agent_can_use_what_belongs_to_the_loop():
    async def tool():
        return threading.current_thread() is threading.main_thread()

    def turn(turn, out):
        return str(out.wait(tool()))

    assert await run_turn(Agent(turn=turn), TURN, Heard()) == "True"


async def test_an_interrupted_plain_agent_ends_at_its_next_word():
    heard, caught = Heard(), []

    def turn(turn, out):
        try:
            out.ask("wait for ever?")
        except Exception as error:  # noqa: BLE001 - as careless agents do
            caught.append(error)
        finally:
            caught.append("cleaned up")

    running = asyncio.create_task(run_turn(Agent(turn=turn), TURN, heard))
    await heard.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert caught == ["cleaned up"]


async def test_what_a_plain_agent_asks_for_after_the_interrupt_is_refused():
    heard, go, refused = Heard(), threading.Event(), []
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def turn(turn, out):
        loop.call_soon_threadsafe(began.set)
        go.wait()
        try:
            out.delta("too late")
        except TurnInterrupted as error:
            refused.append(error)

    running = asyncio.create_task(run_turn(Agent(turn=turn), TURN, heard))
    await began.wait()
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(refused) == 1
    assert heard.deltas == []


async def test_a_second_cancellation_leaves_a_stubborn_thread_to_itself():
    go = threading.Event()
    running = asyncio.create_task(run_turn(Agent(turn=lambda turn, out: go.wait()), TURN, Heard()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    go.set()


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), StopIteration()])
async def test_an_error_of_a_plain_agent_arrives(error):
    def turn(turn, out):
        raise error

    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        await run_turn(Agent(turn=turn), TURN, Heard())


@pytest.mark.parametrize("plain", [True, False])
async def test_an_exit_of_the_agent_does_not_end_the_worker(plain):
    def leave(turn, out):
        raise SystemExit(3)

    async def leave_later(turn, out):
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match=r"the agent called sys.exit\(3\)"):
        await run_turn(Agent(turn=leave if plain else leave_later), TURN, Heard())


async def test_a_wrapped_coroutine_function_is_awaited():
    async def turn(prefix, turn, out):
        return prefix + turn.text

    assert await run_turn(Agent(turn=functools.partial(turn, ">")), TURN, Heard()) == ">hello"
    assert await run_turn(Agent(turn=lambda turn_, out: turn(">>", turn_, out)), TURN, Heard()) == ">>hello"


async def test_an_answer_must_be_text_or_nothing():
    async def number(turn, out):
        return 3

    async def nothing(turn, out):
        return None

    with pytest.raises(TypeError, match="returned a int; it must return str or None"):
        await run_turn(Agent(turn=number), TURN, Heard())
    assert await run_turn(Agent(turn=nothing), TURN, Heard()) is None


async def test_optional_methods_run_where_their_agent_does():
    async def turn(turn, out): ...

    async def steer(text):
        return text

    beside = Agent(turn=turn, interrupt=threading.current_thread, steer=steer, close=None)
    blocking = Agent(turn=lambda turn, out: None, describe=lambda path: threading.current_thread().name)
    assert beside.interrupt() is threading.main_thread()
    assert await optional(beside, "interrupt") is threading.main_thread()
    assert await optional(beside, "steer", "left") == "left"
    assert await optional(beside, "close") is None
    assert await optional(beside, "describe", "x") is None
    assert await optional(blocking, "describe", "x") == "describe"
    assert (has(beside, "steer"), has(beside, "close"), has(beside, "describe")) == (True, False, False)
