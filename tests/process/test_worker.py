"""One real worker process, with a test as its supervisor and as its keeper."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from harness.host import PATIENCE, Host, ended, kill, spec_of, start
from harness.keepers import runs

from hermesd.ipc.codec import pack_value
from hermesd.ipc.mcp import ServerSpec
from hermesd.ipc.messages import (
    Accept,
    Answer,
    Ask,
    Delta,
    Entry,
    File,
    Finished,
    Heartbeat,
    Interrupt,
    Ready,
    Rewind,
    Send,
    Servers,
    Steer,
    Steered,
    StickerFacts,
    Stop,
)
from hermesd.workers.containment.identity import send, wait_dead

AGENTS = textwrap.dedent("""
    import asyncio, logging, multiprocessing, os, sys, threading, time
    from pathlib import Path

    log = logging.getLogger("agent")

    def child(number):
        log.warning("from child %d", number)

    class Agent:
        def __init__(self, session):
            self.session, self.turns = session, 0
            self.steered = []

        async def turn(self, turn, out):
            self.turns += 1
            verb, _, rest = turn.text.partition(" ")
            return await getattr(self, "do_" + verb)(rest, turn, out)

        async def do_mark(self, rest, turn, out):
            Path(rest).touch()
            return f"turn {self.turns} of this agent"

        async def do_stream(self, rest, turn, out):
            for word in rest.split():
                await out.delta(word + " ")

        async def do_fail(self, rest, turn, out):
            raise ValueError(rest)

        async def do_time_out(self, rest, turn, out):
            raise TimeoutError("the model did not answer")

        async def do_cancel_itself(self, rest, turn, out):
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task

        async def do_huge(self, rest, turn, out):
            return "x" * 9_000_000

        async def do_send_huge(self, rest, turn, out):
            await out.send("", "x" * 9_000_000)

        async def do_sleep(self, rest, turn, out):
            await out.delta("half")
            await asyncio.sleep(60)

        async def do_ask(self, rest, turn, out):
            return "chose " + repr(await out.ask("may I?", ("approve", "deny"), 60))

        async def do_send(self, rest, turn, out):
            await out.send("", "besides", [rest])
            return "sent"

        async def do_wait_steer(self, rest, turn, out):
            await out.status("waiting")
            while not self.steered:
                await asyncio.sleep(0.01)
            return "steered " + self.steered[0]

        def steer(self, text):
            if text == "no":
                return False
            self.steered.append(text)
            return True

        async def do_history(self, rest, turn, out):
            return "|".join(entry.text for entry in self.session.history)

        async def do_print(self, rest, turn, out):
            print("on stdout")
            print("on stderr", file=sys.stderr)
            os.system("echo from a shell")
            log.info("logged")
            return "printed"

        async def do_half(self, rest, turn, out):
            os.write(1, b"half a line")
            return "written"

        async def do_children(self, rest, turn, out):
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=child, args=(number,)) for number in range(3)]
            for each in children:
                each.start()
            for each in children:
                await asyncio.to_thread(each.join)
            return "children"

        async def do_close_streams(self, rest, turn, out):
            os.close(1)
            os.close(2)
            return "closed"

        async def do_tools(self, rest, turn, out):
            return str(len(await self.session.mcp.tools()))

        async def do_where(self, rest, turn, out):
            return os.getcwd() + " " + str(self.session.settings.get("colour"))

        async def close(self):
            log.warning("closing")
            raise RuntimeError("the agent's close is broken")

    class Polite(Agent):
        async def interrupt(self, reason):
            self.told = reason

        async def do_sleep(self, rest, turn, out):
            self.told = ""
            while not self.told:
                await asyncio.sleep(0.01)
            raise RuntimeError("told to stop: " + self.told)

    class Plain:
        def __init__(self, session):
            self.session = session

        def turn(self, turn, out):
            out.delta("in " + threading.current_thread().name + " ")
            if turn.text == "loop":
                while True:
                    time.sleep(0.01)
                    out.status("still")
            if turn.text == "block":
                time.sleep(60)
            return None

    class Echo:
        def __init__(self, session):
            self.session = session

        def turn(self, turn, out):
            return "|".join([*(entry.text for entry in self.session.history[::2]), turn.text])

    def broken(session):
        raise KeyError("no key")

    async def slow(session):
        while not Path(session.settings["until"]).exists():
            await asyncio.sleep(0.01)
        return Agent(session)
""")


class Running:
    """A worker and its host."""

    def __init__(self, host: Host, process: subprocess.Popen[bytes], path: Path):
        self.host = host
        self.process = process
        self.path = path

    async def ready(self, **fields: object) -> Ready:
        return await self.host.assign(self.path / "work", **fields)

    async def answer(self, text: str, name: str = "t1", **fields: object) -> Finished:
        self.host.turn(text, name, **fields)
        await self.host.until(lambda: any(each.turn == name for each in self.host.all(Finished)), f"the end of {name}")
        return next(each for each in self.host.all(Finished) if each.turn == name)


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[object]:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "played.py").write_text(AGENTS)
    instance = secrets.token_hex(6)
    made: list[Running] = []

    async def launch(agent: str = "Agent", **fields: object) -> Running:
        name = agent if ":" in agent or agent == "demo" else f"played:{agent}"
        spec = spec_of(tmp_path, instance, agent=name, agent_path=(str(tmp_path / "agents"),), **fields)
        host = Host(spec)
        process = start(spec)
        running = Running(host, process, tmp_path)
        made.append(running)
        return running

    yield launch
    for running in made:
        below = psutil.Process(running.process.pid).children(recursive=True) if running.process.poll() is None else []
        kill(running.process)
        for left in below:
            left.kill()
        running.host.close()


async def test_nothing_is_said_before_the_welcome_and_the_agent_has_its_session(launch) -> None:
    worker = await launch()
    assert (await worker.ready(settings={"colour": "red"})).error == ""
    assert (await worker.answer("where")).text == f"{worker.path / 'work'} red"
    names = [type(message).__name__ for message in worker.host.heard]
    assert names[0] == "Hello"


async def test_the_agent_does_not_start_before_its_accept_is_on_disk(launch) -> None:
    worker = await launch()
    worker.host.holds = (Accept,)
    await worker.ready()
    mark = worker.path / "began"
    worker.host.turn(f"mark {mark}")
    await worker.host.hear(Accept)
    beats = len(worker.host.all(Heartbeat))
    await worker.host.hear(Heartbeat, beats + 3)
    assert not mark.exists()
    worker.host.settle()
    assert (await worker.host.hear(Finished)).outcome == "done"
    assert mark.exists()


async def test_a_turn_that_comes_twice_runs_once(launch) -> None:
    worker = await launch()
    await worker.ready()
    await worker.answer(f"mark {worker.path / 'one'}", "t1")
    worker.host.turn(f"mark {worker.path / 'one'}", "t1")
    assert (await worker.answer(f"mark {worker.path / 'two'}", "t2")).text == "turn 2 of this agent"
    assert len(worker.host.all(Accept)) == 2


async def test_deltas_are_the_answer_of_an_agent_that_returns_none(launch) -> None:
    worker = await launch()
    await worker.ready()
    assert (await worker.answer("stream one two three")).text == "one two three "
    # How many pieces are sent before the end depends on the time they take; the rest comes with the answer.
    assert "one two three ".startswith("".join(delta.text for delta in worker.host.all(Delta)))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("fail no luck", "ValueError: no luck"),
        ("time_out", "TimeoutError: the model did not answer"),
        ("cancel_itself", "the agent cancelled itself"),
        ("huge", "cannot send finished: it needs 900"),
        ("send_huge", "LocalError: cannot send send: it needs 900"),
    ],
)
async def test_a_failed_turn_keeps_the_agent(launch, text: str, error: str) -> None:
    worker = await launch()
    await worker.ready()
    failed = await worker.answer(text, "t1")
    assert failed.outcome == "failed"
    assert failed.error.startswith(error)
    assert (await worker.answer(f"mark {worker.path / 'x'}", "t2")).text == "turn 2 of this agent"


async def test_the_conversation_has_what_the_agent_was_given_of_files(launch) -> None:
    worker = await launch("Echo")
    await worker.ready()
    sticker = File("/m/s.webp", "s.webp", kind="sticker", sticker=StickerFacts("u1", description="a dog"))
    first = await worker.answer("", "t1", attachments=(sticker,))
    assert first.given == first.text == "[The user sent a sticker. It shows: a dog]"
    photos = tuple(File(f"/m/{name}.png", f"{name}.png", "image/png") for name in "ab")
    second = await worker.answer("", "t2", attachments=photos)
    assert second.given == "[The user sent a.png, b.png, without a word.]"
    third = await worker.answer("what is on it?", "t3", attachments=photos)
    assert third.text == f"{first.given}|{second.given}|what is on it?"
    assert third.given == "", "it is the text that it was sent"


async def test_an_agent_that_cannot_be_made_says_why_with_each_turn(launch) -> None:
    worker = await launch("broken")
    assert "cannot make the agent 'played:broken': KeyError: 'no key'" in (await worker.ready()).error
    finished = await worker.answer("mark x")
    assert finished.outcome == "failed"
    assert "no key" in finished.error


async def test_the_turns_own_time_is_over(launch) -> None:
    worker = await launch()
    await worker.ready()
    finished = await worker.answer("sleep", timeout=0.1)
    assert (finished.outcome, finished.text) == ("failed", "half")
    assert finished.error == "the turn took longer than 0.1 s"


async def test_an_interrupt_cancels_a_coroutine(launch) -> None:
    worker = await launch()
    await worker.ready()
    worker.host.turn("sleep")
    await worker.host.hear(Delta)
    interrupt = Interrupt("t1", "enough")
    worker.host.send(interrupt)
    finished = await worker.host.hear(Finished)
    assert (finished.outcome, finished.text, finished.error) == ("interrupted", "half", "enough")
    assert interrupt in worker.host.delivered
    assert (await worker.answer("history", "t2")).text == "sleep|half", "what there was of it is remembered"


async def test_an_agent_that_ends_its_turn_itself_counts_as_interrupted(launch) -> None:
    worker = await launch("Polite")
    await worker.ready()
    worker.host.turn("sleep")
    await worker.host.hear(Accept)
    await worker.host.until(lambda: any(beat.turn == "t1" for beat in worker.host.all(Heartbeat)))
    worker.host.send(Interrupt("t1", "enough"))
    assert (await worker.host.hear(Finished)).outcome == "interrupted"


async def test_an_interrupt_reaches_a_plain_function_at_its_next_word(launch) -> None:
    worker = await launch("Plain")
    await worker.ready()
    worker.host.turn("loop")
    await worker.host.hear(Delta)
    worker.host.send(Interrupt("t1", "enough"))
    finished = await worker.host.hear(Finished)
    assert (finished.outcome, finished.text) == ("interrupted", "in turn t1 ")


async def test_the_link_answers_while_a_plain_function_blocks(launch) -> None:
    worker = await launch("Plain")
    await worker.ready()
    worker.host.turn("block")
    await worker.host.hear(Delta)
    interrupt = Interrupt("t1", "enough")
    worker.host.send(interrupt)
    await worker.host.until(lambda: interrupt in worker.host.delivered, "the interrupt to arrive")
    beats = len(worker.host.all(Heartbeat))
    await worker.host.hear(Heartbeat, beats + 3)
    assert not worker.host.all(Finished)


async def test_an_interrupt_for_another_turn_is_nobodys(launch) -> None:
    worker = await launch()
    await worker.ready()
    worker.host.send(Interrupt("t0", "late"))
    assert (await worker.answer(f"mark {worker.path / 'x'}")).outcome == "done"


async def test_ask_and_answer(launch) -> None:
    worker = await launch()
    await worker.ready()
    worker.host.turn("ask")
    ask = await worker.host.hear(Ask)
    assert (ask.turn, ask.question, ask.choices, ask.timeout) == ("t1", "may I?", ("approve", "deny"), 60)
    worker.host.send(Answer("other", "deny"), Answer(ask.ask, "approve", "u1"))
    assert (await worker.host.hear(Finished)).text == "chose 'approve'"


async def test_a_send_returns_when_it_is_on_disk(launch) -> None:
    worker = await launch()
    worker.host.holds = (Send,)
    await worker.ready()
    (worker.path / "data.unheardof").write_text("x")
    worker.host.turn(f"send {worker.path / 'data.unheardof'}")
    send = await worker.host.hear(Send)
    assert send.files == (File(str(worker.path / "data.unheardof"), "data.unheardof"),)
    assert not worker.host.all(Finished)
    worker.host.settle()
    assert (await worker.host.hear(Finished)).text == "sent"


async def test_sending_a_file_that_is_not_there_fails_the_turn_only(launch) -> None:
    worker = await launch()
    await worker.ready()
    assert "no such file" in (await worker.answer("send /nowhere/x")).error


async def test_steering(launch) -> None:
    worker = await launch()
    await worker.ready()
    worker.host.send(Steer("t0", "too early"))
    assert (await worker.host.hear(Steered)) == Steered("t0", False)
    worker.host.turn("wait_steer")
    await worker.host.hear(Accept)
    await worker.host.until(lambda: any(beat.turn == "t1" for beat in worker.host.all(Heartbeat)))
    worker.host.send(Steer("t1", "no"), Steer("t1", "left"))
    assert (await worker.host.hear(Steered, 2)) == Steered("t1", False)
    assert (await worker.host.hear(Steered, 3)) == Steered("t1", True)
    assert (await worker.host.hear(Finished)).text == "steered left"


async def test_history_is_given_kept_and_rewound(launch) -> None:
    worker = await launch()
    await worker.ready(history=(Entry("user", "a"), Entry("assistant", "b")))
    assert (await worker.answer("history", "t1")).text == "a|b"
    await worker.answer("fail x", "t2")
    assert (await worker.answer("history", "t3")).text == "a|b|history|a|b"
    worker.host.send(Rewind(4))
    assert (await worker.answer("history", "t4")).text == "a|b"


async def test_prints_and_children_arrive_as_log_records(launch) -> None:
    worker = await launch()
    await worker.ready()
    await worker.answer("print")
    for text in ("on stdout", "on stderr", "from a shell"):
        assert (await worker.host.log(text)).logger == "stdout"
    logged = await worker.host.log("logged")
    assert (logged.logger, logged.turn) == ("agent", "t1")


async def test_the_last_line_arrives_also_without_an_end(launch) -> None:
    worker = await launch()
    await worker.ready()
    await worker.answer("half")
    worker.host.send(Stop("enough", 1.0))
    assert (await worker.host.log("half a line")).logger == "stdout"


async def test_what_forked_children_log_arrives_with_their_pids(launch) -> None:
    worker = await launch()
    await worker.ready()
    await worker.answer("children")
    records = [await worker.host.log(f"from child {number}") for number in range(3)]
    assert {record.logger for record in records} == {"agent"}
    pids = {record.pid for record in records}
    assert len(pids) == 3
    assert not pids & {0, worker.process.pid}


async def test_an_agent_that_closes_its_streams_costs_no_cpu(launch) -> None:
    worker = await launch(idle_heartbeat=0.25)
    await worker.ready()
    await worker.answer("close_streams")
    process = psutil.Process(worker.process.pid)
    beats = len(worker.host.all(Heartbeat))
    before = sum(process.cpu_times()[:2])
    await worker.host.hear(Heartbeat, beats + 3)  # two waits at least: the first may have been sent before
    assert sum(process.cpu_times()[:2]) - before < 0.15


async def test_a_stop_closes_everything_and_exits_0(launch) -> None:
    time_server = ServerSpec("time", sys.executable, ("-m", "mcp_server_time"), tools_wait=60.0)
    worker = await launch(servers=(time_server,))
    await worker.ready()
    tools = await worker.answer("tools")
    assert int(tools.text) > 0
    report = worker.host.all(Servers)[-1].servers[0]
    assert (report.name, report.state) == ("time", "ready")
    worker.host.send(Stop("enough", 2.0))
    assert await ended(worker.process) == 0
    assert not runs(report.pid)
    await worker.host.log("closing")
    await worker.host.log("the agent's close failed")


async def test_a_stop_cuts_a_turn_off_whose_fate_is_for_the_supervisor(launch) -> None:
    worker = await launch()
    await worker.ready()
    worker.host.turn("sleep")
    await worker.host.hear(Delta)
    worker.host.send(Stop("enough", 1.0))
    assert await ended(worker.process) == 0
    await worker.host.log("stopping: enough")
    assert not worker.host.all(Finished), "another worker may have the message now"


async def test_a_stop_after_an_interrupt_ends_a_running_turn_and_says_so(launch) -> None:
    worker = await launch("Plain")
    await worker.ready()
    worker.host.turn("loop")
    await worker.host.hear(Delta)
    worker.host.send(Interrupt("t1", "no more"))
    worker.host.send(Stop("enough", 10.0))
    assert await ended(worker.process) == 0
    finished = await worker.host.hear(Finished)
    assert (finished.outcome, finished.error) == ("interrupted", "no more")


async def test_a_turn_that_waits_for_its_agent_is_not_accepted_before_there_is_one(launch) -> None:
    worker = await launch("slow")
    there = worker.path / "there"
    ready = asyncio.ensure_future(worker.ready(settings={"until": str(there)}))
    await asyncio.sleep(0)
    worker.host.turn("history")
    await worker.host.until(lambda: any(beat.turn == "t1" for beat in worker.host.all(Heartbeat)))
    assert not worker.host.all(Accept)
    there.touch()
    assert (await ready).error == ""
    assert (await worker.host.hear(Finished)).outcome == "done"


async def test_sigusr1_writes_every_stack_into_its_file(launch) -> None:
    worker = await launch("Plain")
    await worker.ready()
    worker.host.turn("block")
    await worker.host.hear(Delta)
    stacks = worker.path / "stacks.txt"
    assert stacks.read_text() == ""
    worker.process.send_signal(signal.SIGUSR1)

    def is_whole() -> bool:
        """It is written line by line."""
        text = stacks.read_text()
        return all(of_a_thread in text for of_a_thread in ("played.py", "link_thread.py", "run_until_complete"))

    await worker.host.until(is_whole, "the stacks of the turn, the link and the main thread")
    assert len(re.findall(r"^(?:Current thread|Thread) 0x", stacks.read_text(), flags=re.MULTILINE)) >= 3


def _times_in(path: Path, word: str, times: int) -> bool:
    return path.read_text().count(word) >= times


async def test_a_dump_of_a_stopped_worker_is_written_by_its_main_thread(launch) -> None:
    worker = await launch("Plain")
    await worker.ready()
    stacks, process = worker.path / "stacks.txt", psutil.Process(worker.process.pid)
    for number in range(1, 21):
        worker.process.send_signal(signal.SIGSTOP)
        await worker.host.until(lambda: process.status() == psutil.STATUS_STOPPED, "its stop")
        worker.process.send_signal(signal.SIGUSR1)
        worker.process.send_signal(signal.SIGCONT)
        dumped = partial(_times_in, stacks, "run_until_complete", number)
        await worker.host.until(dumped, "the main thread's stack")
    told = re.split(r"^(?=Current thread|Thread)", stacks.read_text(), flags=re.MULTILINE)
    written = [one for one in told if one.startswith("Current thread")]
    assert len(written) == 20
    assert all("run_until_complete" in one for one in written)


KEEPER = """
import os, subprocess, sys
process = subprocess.Popen(
    [sys.executable, "-m", "hermesd.workers", sys.argv[1]], pass_fds=(int(sys.argv[1]),), stdin=subprocess.DEVNULL
)
print(process.pid, flush=True)
process.wait()
"""


async def test_the_death_of_its_keeper_ends_it(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, secrets.token_hex(6))
    host = Host(spec)
    read, write = os.pipe()
    keeper = subprocess.Popen(  # noqa: ASYNC220 - the fork takes a millisecond
        [sys.executable, "-c", KEEPER, str(read)],
        pass_fds=(read,),
        env={**os.environ, "HERMESD_TAG": spec.tag},
        stdout=subprocess.PIPE,
    )
    os.close(read)
    with os.fdopen(write, "wb") as told:
        told.write(pack_value(replace(spec, keeper=keeper.pid)))
    assert keeper.stdout is not None
    worker = os.pidfd_open(int(keeper.stdout.readline()))
    try:
        await host.assign(tmp_path / "work")
        host.turn("!sleep 60")
        await host.hear(Accept)
        keeper.kill()
        keeper.wait()
        assert await asyncio.to_thread(wait_dead, worker, PATIENCE), "the worker outlives its keeper"
    finally:
        send(worker, signal.SIGKILL)
        os.close(worker)
        keeper.stdout.close()
        host.close()
