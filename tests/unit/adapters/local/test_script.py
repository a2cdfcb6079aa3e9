from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from hermesd.adapters.contract import AdapterSettings, Inbound, Outbound, Target
from hermesd.adapters.errors import NotAccepted
from hermesd.adapters.local import adapter as local
from hermesd.adapters.local.lines import lines
from hermesd.adapters.local.output import Output
from hermesd.adapters.local.script import Line, ScriptConsole, may_go


@pytest.mark.parametrize(
    ("line", "running", "asked", "goes"),
    [
        (Line("hello", 0.0), False, False, True),
        (Line("hello", 9.0), True, False, False),
        (Line("hello", 0.0), True, True, False),
        (Line("/new", 0.0), True, False, False),
        (Line("/approve", 0.0), True, True, True),
        (Line("/stop", 0.5), True, False, True),
        (Line("/new", 0.0), False, False, True),
    ],
)
def test_a_line_waits_for_the_one_before_unless_it_is_about_it(
    line: Line, running: bool, asked: bool, goes: bool
) -> None:
    assert may_go(line, running=running, asked=asked) is goes


class Core:
    """Answers as the script of a test says; remembers in which order things happened."""

    def __init__(self, adapter: local.LocalAdapter):
        self.adapter = adapter
        self.log: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.question: Target | None = None
        self.asked = asyncio.Event()

    async def receive(self, inbound: Inbound) -> bool:
        assert inbound.trusted
        if inbound.text == "!refuse":
            raise NotAccepted("draining")
        self.log.append(inbound.text)
        self.tasks.append(asyncio.create_task(self._answer(inbound)))
        return True

    def cancel(self, inbound_chat: Target) -> None: ...

    def attended(self, chat: Target) -> None: ...

    async def _answer(self, inbound: Inbound) -> None:
        target = Target("local", inbound.chat_id, reply_to=inbound.message_id)
        if inbound.text == "!ask":
            self.question = target
            self.adapter.notice(target, "waiting")
            await self.adapter.send(target, Outbound("q", "may I?", kind="question", final=False))
            self.asked.set()
            return
        if inbound.text == "/approve" and self.question is not None:
            await self.adapter.send(self.question, Outbound("a", "approved"))
        kind = "error" if inbound.text == "!fail" else "answer"
        self.adapter.stream(target, "re: ")
        await self.adapter.send(target, Outbound("k", f"re: {inbound.text}", kind=kind))
        self.log.append(f"re: {inbound.text}")


class Console:
    """hermesd --console with pipes of the test as its stdin, stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.stdin, self.typing = os.pipe()
        self.reading, stdout = os.pipe()
        self.reading_errors, stderr = os.pipe()
        self.fds = [self.stdin, self.reading, stdout, self.reading_errors, stderr]
        made = ScriptConsole(lines(self.stdin), Output(stdout, "stdout"), Output(stderr, "stderr"))
        monkeypatch.setattr(local, "open_console", lambda: made)
        self.adapter = local.LocalAdapter(AdapterSettings("local"))
        self.core = Core(self.adapter)

    async def run(self) -> int:
        await self.adapter.start(self.core)
        async with asyncio.timeout(30):
            status = await self.adapter.converse()
        await asyncio.gather(*self.core.tasks, return_exceptions=True)
        return status

    def write(self, text: str, *, end: bool = True) -> None:
        os.write(self.typing, text.encode())
        if end:
            self.end()

    def end(self) -> None:
        os.close(self.typing)

    @property
    def output(self) -> str:
        return os.read(self.reading, 1 << 16).decode()

    @property
    def errors(self) -> str:
        return os.read(self.reading_errors, 1 << 16).decode()


@pytest.fixture
async def console(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Console]:
    made = Console(monkeypatch)
    yield made
    await made.adapter.stop()
    for fd in made.fds:
        os.close(fd)


async def test_each_line_is_answered_before_the_next_and_the_end_waits_for_all(console: Console) -> None:
    console.write("one\n\n  \ntwo\nthree")
    assert await console.run() == 0
    assert console.output == "re: one\nre: two\nre: three\n"
    assert console.core.log == ["one", "re: one", "two", "re: two", "three", "re: three"]


async def test_no_input_at_all_ends_at_once(console: Console) -> None:
    console.end()
    assert await console.run() == 0


async def test_a_question_lets_the_command_that_answers_it_pass(console: Console) -> None:
    console.write("!ask\n/approve\nlast\n")
    assert await console.run() == 0
    assert console.output == "approved\nre: /approve\nre: last\n"
    assert console.errors == "waiting\nmay I?\n"


async def test_an_error_goes_to_stderr_and_makes_the_status_1(console: Console) -> None:
    console.write("!fail\nfine\n")
    assert await console.run() == 1
    assert console.output == "re: fine\n"
    assert console.errors == "re: !fail\n"


async def test_what_answers_none_of_its_lines_goes_to_stderr_and_fails_nothing(console: Console) -> None:
    running = asyncio.create_task(console.run())
    console.write("!ask\n", end=False)
    await console.core.asked.wait()
    for key, kind in (("k1", "answer"), ("k2", "error"), ("k3", "notice")):
        await console.adapter.send(Target("local", "", reply_to="earlier"), Outbound(key, f"old {kind}", kind=kind))
    console.write("/approve\n")
    assert await running == 0
    assert console.output == "approved\nre: /approve\n"
    assert console.errors == "waiting\nmay I?\nold answer\nold error\nold notice\n"


async def test_a_line_that_was_not_accepted_makes_the_status_1(console: Console) -> None:
    console.write("!refuse\nfine\n")
    assert await console.run() == 1
    assert (console.output, console.errors) == ("re: fine\n", "not accepted: draining\n")


async def test_stop_ends_the_console_with_its_input_still_open(console: Console) -> None:
    running = asyncio.create_task(console.run())
    console.write("!ask\n", end=False)
    await console.core.asked.wait()
    async with asyncio.timeout(30):
        await console.adapter.stop()
        assert await running == 1
    console.end()


async def test_a_reader_that_has_gone_ends_the_console(console: Console) -> None:
    os.close(console.reading)
    console.fds.remove(console.reading)
    console.write("one\ntwo\n")
    assert await console.run() == 1
    assert console.core.log == ["one"]
