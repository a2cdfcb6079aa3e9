"""How a worker calls anybody's agent: coroutine functions on the event loop, plain ones in threads.

A plain agent may block for minutes, so its methods never run on the loop. Its threads are daemons: the end of the
interpreter would otherwise wait for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from hermesd.workers.agents.contract import Agent, Out, Turn

T = TypeVar("T")


class TurnInterrupted(BaseException):
    """Raised in a plain agent's thread by its next use of ``out`` once the turn is interrupted.

    Not an ``Exception``, like the cancellation that a coroutine gets: agents that catch those around each tool must not
    swallow it.
    """


class BlockingOut:
    """`Out` for a plain agent: the same methods without ``await``, called in the agent's own thread."""

    def __init__(self, out: Out, loop: asyncio.AbstractEventLoop) -> None:
        self._out = out
        self._loop = loop
        self._interrupted = False
        self._waiting: set[asyncio.Task[Any]] = set()  # several, for an agent may have threads of its own

    def delta(self, text: str) -> None:
        self.wait(self._out.delta(text))

    def tool(self, name: str, args: str | dict[str, Any], state: str) -> None:
        self.wait(self._out.tool(name, args, state))

    def status(self, text: str) -> None:
        self.wait(self._out.status(text))

    def send(self, target: str, text: str, files: Sequence[str] = ()) -> None:
        self.wait(self._out.send(target, text, files))

    def usage(self, tokens: Mapping[str, int]) -> None:
        self.wait(self._out.usage(tokens))

    def ask(self, question: str, choices: Sequence[str] = ("approve", "deny"), timeout: float = 300.0) -> str:
        return self.wait(self._out.ask(question, choices, timeout))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop, e.g. ``out.wait(session.mcp.call("time", "now", {}))``."""
        return asyncio.run_coroutine_threadsafe(self._unless_interrupted(coroutine), self._loop).result()

    def interrupt(self) -> None:
        """Called on the loop: what the agent waits for ends now, and so does everything it asks for later."""
        self._interrupted = True
        for task in self._waiting:
            task.cancel()

    async def _unless_interrupted(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._interrupted:
            coroutine.close()
            raise TurnInterrupted
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            return await coroutine
        except asyncio.CancelledError:
            # Not a cancellation for the thread: concurrent.futures would raise its own CancelledError there, which is
            # an Exception.
            raise TurnInterrupted from None
        finally:
            self._waiting.discard(task)


async def run_turn(agent: Agent, turn: Turn, out: Out) -> str | None:
    """Run one turn and return its whole answer, or None where the deltas are it.

    Raises what the agent raises, RuntimeError instead of SystemExit, and TypeError for an answer that is no text. On
    cancellation a coroutine is cancelled; a plain agent's thread cannot be, so its next use of ``out`` raises
    `TurnInterrupted` and this waits for it to end: two turns of one agent never overlap. A second cancellation leaves
    the thread to itself.
    """
    try:
        if _is_coroutine_function(agent.turn):
            answer: Any = await agent.turn(turn, out)
        else:
            answer = await _plain_turn(agent, turn, out)
    except SystemExit as error:
        # asyncio would let it through and end the worker; agents made of command-line programs do this for bad input.
        raise RuntimeError(f"the agent called sys.exit({error.code!r})") from error
    if answer is not None and not isinstance(answer, str):
        raise TypeError(f"the agent's turn() returned a {type(answer).__name__}; it must return str or None")
    return answer


async def _plain_turn(agent: Agent, turn: Turn, out: Out) -> Any:
    blocking = BlockingOut(out, asyncio.get_running_loop())
    ended = _in_thread(f"turn {turn.id}", lambda: agent.turn(turn, blocking))  # type: ignore[arg-type]
    try:
        answer = await asyncio.shield(ended)
    except asyncio.CancelledError:
        blocking.interrupt()
        await asyncio.wait([ended])
        if not ended.cancelled():
            ended.exception()  # retrieved: the turn counts as interrupted, whatever its end was
        raise
    except TurnInterrupted:
        raise asyncio.CancelledError from None
    # A plain function may be a wrapper that hands back the coroutine of the real one.
    return await answer if inspect.isawaitable(answer) else answer


def has(agent: object, method: str) -> bool:
    """Whether the agent has this optional method."""
    return callable(getattr(agent, method, None))


async def optional(agent: object, method: str, *args: Any) -> Any:
    """Call an optional method of the agent and return what it returns, None where the agent has no such method.

    A plain method of an agent whose ``turn`` is a coroutine runs on the loop, where its asyncio objects live; of a
    plain agent, in a thread, for it may block.
    """
    if not has(agent, method):
        return None
    function = getattr(agent, method)
    if _is_coroutine_function(function):
        return await function(*args)
    if _is_coroutine_function(getattr(agent, "turn", None)):
        result = function(*args)
    else:
        result = await _in_thread(method, lambda: function(*args))
    return await result if inspect.isawaitable(result) else result


def _is_coroutine_function(function: Any) -> bool:
    """Also for an instance with an ``async def __call__`` and for a ``functools.partial`` of a coroutine function."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _in_thread(name: str, function: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run ``function`` in a daemon thread with a copy of the caller's context variables."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if ended.cancelled():
            return
        if error is None:
            ended.set_result(result)
        elif isinstance(error, StopIteration):
            # A future refuses StopIteration, for it would end the coroutine that waits.
            ended.set_exception(RuntimeError(f"the agent raised {error!r}"))
        else:
            ended.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(function)
        except BaseException as raised:  # noqa: BLE001 - a thread's edge: everything goes to the one who waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return ended
