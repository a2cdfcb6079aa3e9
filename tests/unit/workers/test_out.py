from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import UP, Ask, Delta, File, Message, Send, Status, ToolUse
from hermesd.workers import out as out_module
from hermesd.workers.out import ARGS_PREVIEW, BACKLOG_HIGH, TurnOut


class Wire:
    def __init__(self) -> None:
        self.posted: list[Message] = []
        self.backlog = 0
        self.answers: dict[str, asyncio.Future[str]] = {}

    def out(self) -> TurnOut:
        return TurnOut("t1", post=self.post, backlog=lambda: self.backlog, durable=self.durable, asked=self.asked)

    def post(self, message: Message) -> None:
        Codec(*UP).pack(message)  # the wire can carry it
        self.posted.append(message)

    def durable(self, message: Message) -> asyncio.Future[None]:
        self.post(message)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def asked(self, ask: Ask) -> asyncio.Future[str]:
        self.post(ask)
        return self.answers.setdefault(ask.ask, asyncio.get_running_loop().create_future())


@pytest.fixture
def wire() -> Wire:
    return Wire()


async def test_deltas_add_up_and_empty_ones_are_not_sent(wire: Wire) -> None:
    out = wire.out()
    for text in ("a", "", "b\ud800"):
        await out.delta(text)
    assert len(wire.posted) == 2
    assert out.text.startswith("ab")
    out.text.encode()


async def test_a_streaming_agent_waits_while_the_wire_is_behind(wire: Wire) -> None:
    out = wire.out()
    wire.backlog = BACKLOG_HIGH + 1
    writing = asyncio.ensure_future(out.delta("a"))
    await asyncio.sleep(0.015)
    assert not writing.done()
    wire.backlog = 0
    await writing
    assert wire.posted == [Delta("t1", "a")]


async def test_tool_arguments_are_a_short_preview(wire: Wire) -> None:
    await wire.out().tool("read", {"path": Path("/x"), "text": "y" * 1000}, "started")
    (used,) = wire.posted
    assert isinstance(used, ToolUse)
    assert used.args.startswith('{"path": "/x"')
    assert len(used.args) == ARGS_PREVIEW


async def test_status(wire: Wire) -> None:
    await wire.out().status("thinking")
    assert wire.posted == [Status("t1", "thinking")]


@pytest.mark.parametrize(
    ("name", "mime"), [("a.png", "image/png"), ("a.unheardof", "application/octet-stream"), ("a", File("", "").mime)]
)
async def test_files_are_described(wire: Wire, tmp_path: Path, name: str, mime: str) -> None:
    path = tmp_path / name
    path.touch()
    await wire.out().send("", "look", [str(path)])
    (sent,) = wire.posted
    assert isinstance(sent, Send)
    assert sent.files == (File(str(path), name, mime),)


async def test_a_file_that_is_not_there_is_named(wire: Wire) -> None:
    with pytest.raises(FileNotFoundError, match="cannot send /nowhere/a: no such file"):
        await wire.out().send("", "look", ["/nowhere/a"])
    assert not wire.posted


async def test_an_answer_is_the_choice(wire: Wire) -> None:
    asking = asyncio.ensure_future(wire.out().ask("may I?", ("yes", "no"), 5.0))
    await asyncio.sleep(0)
    (ask,) = wire.posted
    assert isinstance(ask, Ask)
    wire.answers[ask.ask].set_result("yes")
    assert await asking == "yes"


async def test_a_supervisor_that_is_away_does_not_hold_the_agent_for_ever(wire: Wire) -> None:
    assert await wire.out().ask("may I?", timeout=-30.0) == ""


def test_the_type_of_unknown_files_is_the_contracts() -> None:
    assert File("", "").mime == out_module.UNKNOWN_TYPE


async def test_usage_adds_up(wire: Wire) -> None:
    out = wire.out()
    await out.usage({"prompt_tokens": 3, "completion_tokens": 1})
    await out.usage({"prompt_tokens": 4})
    assert out.used == {"prompt_tokens": 7, "completion_tokens": 1}
    assert wire.posted == []
