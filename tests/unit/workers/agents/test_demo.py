"""The demo agent answers by itself and does what its commands say."""

import asyncio
import os
from pathlib import Path

import pytest

from hermesd.ipc.messages import Entry, File
from hermesd.workers.agents.contract import Session, Tool, ToolResult, Turn
from hermesd.workers.agents.demo import COMMANDS, make
from hermesd.workers.mcp.errors import NoSuchServer


class Said:
    """What an agent gave out, in order; answers each question with ``choice``."""

    def __init__(self, choice="approve"):
        self.deltas, self.uses, self.lines, self.sent, self.asked = [], [], [], [], []
        self.choice = choice

    async def delta(self, text):
        self.deltas.append(text)

    async def tool(self, name, args, state):
        self.uses.append((name, args, state))

    async def status(self, text):
        self.lines.append(text)

    async def send(self, target, text, files=()):
        self.sent.append((target, text, tuple(files)))

    async def ask(self, question, choices=("approve", "deny"), timeout=300.0):
        self.asked.append((question, tuple(choices)))
        return self.choice


class OneServer:
    started = 0

    async def start(self, *servers):
        self.started += 1

    async def tools(self, *, patient=False):
        return [Tool("echo", "say", "Says it again.\nAt length.", {})]

    async def call(self, server, tool, arguments):
        if server != "echo":
            raise NoSuchServer(server, ["echo"])
        return ToolResult(f"{tool}: {arguments}", is_error=tool == "bad")


@pytest.fixture
def session(tmp_path):
    return Session(
        key="agent:main:local:dm", id="s1", platform="local", chat="", user="u", user_name="Ann", history=[],
        mcp=OneServer(), settings={}, workdir=tmp_path,
    )  # fmt: skip


@pytest.fixture
def agent(session):
    return make(session)


async def say(agent, text, out=None, **more):
    return await agent.turn(Turn("t1", text, "u", **more), out or Said())


async def test_any_text_is_answered_in_parts_that_make_the_whole(agent, session):
    out = Said()
    session.history += [Entry("user", "a"), Entry("assistant", "b")]
    answer = await say(agent, "good morning", out)
    assert "You said: good morning" in answer
    assert "message 1 to this worker, and I remember 1 answered before it" in answer
    assert "!help" in answer
    assert "".join(out.deltas) == answer
    assert len(out.deltas) > 1


async def test_a_file_without_text_is_answered(agent):
    answer = await say(agent, "", attachments=(File("/t/cat.png", "cat.png", "image/png"),))
    assert "You sent no text." in answer
    assert "cat.png (image/png)" in answer


async def test_help_names_every_command(agent):
    answer = await say(agent, "!help")
    assert all(entry.usage in answer for entry in COMMANDS.values())


async def test_tools_are_listed_with_their_first_line(agent):
    assert "echo.say - Says it again.\n" in await say(agent, "!tools")


async def test_servers_are_started_on_request(agent):
    assert "echo.say" in await say(agent, "!start")
    assert agent._session.mcp.started == 1


async def test_a_call_replies_with_the_tools_text(agent):
    out = Said()
    assert await say(agent, '!call echo.say {"a": 1}', out) == "say: {'a': 1}"
    assert out.uses == [("echo.say", {"a": 1}, "started"), ("echo.say", {"a": 1}, "done")]


async def test_a_failed_call_says_so(agent):
    out = Said()
    assert await say(agent, "!call echo.bad", out) == "echo.bad reports an error: bad: {}"
    assert await say(agent, "!call other.say", out) == "there is no MCP server 'other'; configured: echo"
    assert [state for _, _, state in out.uses] == ["started", "failed"] * 2


async def test_an_ask_tells_the_choice(agent):
    out = Said("deny")
    assert await say(agent, "!ask really?", out) == "You chose deny."
    assert out.asked == [("really?", ("approve", "deny"))]
    assert await say(agent, "!ask really?", Said("")) == "Nobody answered in time."


async def test_a_file_is_written_and_sent(agent, session):
    out = Said()
    await say(agent, "!file note.txt", out)
    [(target, _, [path])] = out.sent
    assert target == ""
    assert Path(path).parent == session.workdir
    assert session.key in Path(path).read_text()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", ".."])
async def test_a_file_stays_in_the_working_directory(agent, session, name):
    assert "is no plain file name" in await say(agent, f"!file {name}")
    assert list(session.workdir.iterdir()) == []


async def test_a_stream_has_as_many_parts_as_asked(agent):
    out = Said()
    assert await say(agent, "!stream 4", out) == "1 2 3 4 "
    assert out.deltas == ["1 ", "2 ", "3 ", "4 "]


async def test_an_interrupt_wakes_a_sleep(agent):
    turn = asyncio.create_task(say(agent, "!sleep 500"))
    await asyncio.sleep(0)
    await agent.interrupt("/stop")
    assert (await turn).endswith("of 500 s: /stop.")


async def test_an_interrupt_of_the_last_turn_does_not_touch_the_next(agent):
    await agent.interrupt("/stop")
    assert await say(agent, "!sleep 0") == "Slept for 0 s."


async def test_a_cancelled_sleep_is_over_at_once(agent):
    turn = asyncio.create_task(say(agent, "!sleep 500"))
    await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn


async def test_a_failure_is_raised(agent):
    with pytest.raises(RuntimeError, match="boom"):
        await say(agent, "!fail boom")


async def test_spin_and_regex_come_back(agent):
    assert "Went round" in await say(agent, "!spin 0.001")
    assert "in one C call" in await say(agent, "!regex 10")


async def test_an_unknown_crash_lists_the_known_ones(agent):
    assert await say(agent, "!crash gently") == "I cannot crash by 'gently'; try one of: exit, segv, abort, kill"


async def test_history_env_leak_and_whoami_tell_the_truth(agent, session, monkeypatch):
    monkeypatch.setenv("HERMESD_TEST_CANARY", "its-value")
    assert await say(agent, "!history") == "This conversation has no history yet."
    session.history += [Entry("user", "one\ntwo"), Entry("assistant", "x" * 500)]
    history = await say(agent, "!history")
    assert history.startswith("2 entries, the last 2:\nuser: one\nassistant: xxx")
    assert len(history) < 200
    env = await say(agent, "!env")
    assert "HERMESD_TEST_CANARY" in env
    assert "its-value" not in env
    assert await say(agent, "!leak 1") == "Holding 1 MB that I never give back."
    assert await say(agent, "!leak 2") == "Holding 3 MB that I never give back."
    assert f"pid {os.getpid()}" in await say(agent, "!whoami")
    assert "Session agent:main:local:dm (s1) of Ann on local" in await say(agent, "!whoami")
