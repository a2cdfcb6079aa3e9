"""Anybody's agent, named in the configuration and found by `agent_path`, through the installed programs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.chat import Chat
from harness.daemon import Daemon
from harness.figures import StopWatch
from harness.running import TIME, wait_until

DM = "agent:main:local:dm"

PLAIN = '''
import time

class Plain:
    """Its turn is a plain function: it may block."""

    def __init__(self, session):
        self.session = session
        self.asked = 0

    def turn(self, turn, out):
        self.asked += 1
        if turn.text == "block":
            out.status("blocking")
            while True:
                time.sleep(0.02)
                out.delta("z")
        if turn.text == "ask":
            return "chosen: " + out.ask("Shall I?", ["approve", "deny"], 60.0)
        if turn.text == "pick":
            return "chosen: " + out.ask("Which?", ["red", "green"], 60.0)
        if turn.text == "tool":
            return out.wait(self.session.mcp.call("time", "get_current_time", {"timezone": "UTC"})).text
        out.delta("plain ")
        return f"plain {turn.text} {self.asked} {self.session.settings['greeting']}"

def make(session):
    return Plain(session)
'''

COROUTINE = """
import asyncio

class Coroutine:
    def __init__(self, session):
        self.session = session
        self.reasons = []

    async def turn(self, turn, out):
        if turn.text == "block":
            await out.status("blocking")
            await asyncio.sleep(600)
        if turn.text == "ask":
            return "chosen: " + await out.ask("Shall I?", ("approve", "deny"), 60.0)
        if turn.text == "file":
            path = self.session.workdir / "note.txt"
            path.write_text("a note")
            await out.send("", "here it is", [str(path)])
            return "sent"
        if turn.text == "number":
            return 7
        if turn.text == "exit":
            raise SystemExit(3)
        await out.delta("half ")
        await out.delta("and half")
        return None

    async def interrupt(self, reason):
        self.reasons.append(reason)

def make(session):
    return Coroutine(session)
"""

BROKEN = """
def make(session):
    raise RuntimeError("no key in the settings")
"""

NEEDY = "import a_module_that_nobody_has\n"


@pytest.fixture
def start(make_home: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start hermesd with an agent whose package lies in a directory that is on no path."""
    started: list[Daemon] = []
    folder = tmp_path / "agents"
    package = folder / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()

    def begin(module: str, code: str, servers: Mapping[str, Any] | None = None) -> Daemon:
        (package / f"{module}.py").write_text(code)
        ours = {
            "agent": f"mine.{module}:make", "agent_path": [str(folder)], "agent_settings": {"greeting": "ahoy"}
        }  # fmt: skip
        daemon = Daemon(make_home("home"), json.dumps({"hermesd": ours, "mcp_servers": dict(servers or {})}))
        started.append(daemon)
        return daemon.start()

    yield begin
    for daemon in started:
        daemon.__exit__()


@pytest.mark.parametrize("cwd", [".", "elsewhere"])
def test_a_relative_agent_path_means_the_same_to_the_check_and_to_the_worker(
    make_home: Callable[[str], Path], tmp_path: Path, cwd: str
) -> None:
    ours = {"agent": "mine.plain:make", "agent_path": ["agents"], "agent_settings": {"greeting": "ahoy"}}
    daemon = Daemon(make_home("home"), json.dumps({"hermesd": ours}))
    package = daemon.home / "agents" / "mine"
    package.mkdir(parents=True)
    (package / "plain.py").write_text(PLAIN)
    here = daemon.home / cwd
    here.mkdir(exist_ok=True)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=daemon.env, cwd=here, capture_output=True, text=True, timeout=60)

    checked = run(*daemon.command("hermesd", "--check"))
    assert (checked.returncode, checked.stderr) == (0, "")
    started = run(*daemon.command("hermesd", "--daemon"))
    assert (started.returncode, started.stderr) == (0, "")
    daemon.hold(int(started.stdout))
    with daemon:
        assert daemon.ctl("chat", input="hello\n").stdout == "plain hello 1 ahoy\n"


def test_a_plain_functions_turn_answers_with_its_settings_and_keeps_its_state(start: Callable[..., Daemon]) -> None:
    daemon = start("plain", PLAIN, {"time": TIME})
    done = daemon.ctl("chat", input="hello\nagain\n")
    assert done.stdout == "plain hello 1 ahoy\nplain again 2 ahoy\n", done.stderr
    assert json.loads(daemon.ctl("chat", input="tool\n").stdout)["timezone"] == "UTC"


def test_a_plain_functions_turn_is_interrupted_by_stop_and_its_worker_stays(start: Callable[..., Daemon]) -> None:
    daemon = start("plain", PLAIN)
    with Chat(daemon) as chat:
        chat.say("block")
        chat.wait("status", "blocking")
        pid = daemon.worker_of(DM)["pid"]
        watch = StopWatch()
        chat.say("/stop")
        chat.wait("answer", "(?i)interrupted")
        assert watch.seconds() < 2.5
        chat.say("hello")
        chat.wait("answer", "plain hello 2 ahoy")
    assert daemon.worker_of(DM)["pid"] == pid


@pytest.mark.parametrize(("module", "code"), [("plain", PLAIN), ("coroutine", COROUTINE)])
def test_a_question_waits_for_approve_or_deny(start: Callable[..., Daemon], module: str, code: str) -> None:
    daemon = start(module, code)
    with Chat(daemon) as chat:
        for command, chosen in (("/approve", "approve"), ("/deny", "deny")):
            chat.say("ask")
            assert "/approve" in chat.wait("question", r"Shall I\?")
            assert daemon.worker_of(DM)["state"] == "waiting"
            chat.say(command)
            chat.wait("answer", f"chosen: {chosen}")
            wait_until(lambda: daemon.worker_of(DM)["state"] == "idle", what="idle again")


def test_a_question_with_choices_of_its_own_is_answered_by_one_of_them(start: Callable[..., Daemon]) -> None:
    with Chat(start("plain", PLAIN)) as chat:
        chat.say("pick")
        question = chat.wait("question", "Which")
        assert "red" in question
        assert "green" in question
        chat.say("/approve blue")
        chat.wait("notice", "red")
        chat.say("/approve green")
        chat.wait("answer", "chosen: green")


def test_a_coroutines_turn_streams_sends_a_file_and_is_interrupted(start: Callable[..., Daemon]) -> None:
    daemon = start("coroutine", COROUTINE)
    with Chat(daemon) as chat:
        chat.say("hello")
        chat.wait("answer", "^half and half$")
        chat.say("file")
        sent = chat.wait("notice", "here it is")
        path = re.search(r"/\S+note\.txt", sent)
        assert path is not None, sent
        assert Path(path[0]).read_text() == "a note"
        chat.wait("answer", "^sent$")
        pid = daemon.worker_of(DM)["pid"]
        chat.say("block")
        chat.wait("status", "blocking")
        chat.say("/stop")
        chat.wait("answer", "(?i)interrupted")
        chat.say("hello")
        chat.wait("answer", "^half and half$")
        assert daemon.worker_of(DM)["pid"] == pid


def test_an_answer_that_is_no_text_and_an_exit_fail_the_turn_only(start: Callable[..., Daemon]) -> None:
    daemon = start("coroutine", COROUTINE)
    done = daemon.ctl("chat", input="number\nexit\nhello\n")
    assert done.returncode == 1
    assert "turn() returned a int" in done.stderr
    assert "sys.exit(3)" in done.stderr
    assert done.stdout == "half and half\n"
    assert daemon.worker_of(DM)["restarts"] == 0


@pytest.mark.parametrize(
    ("module", "code", "why"),
    [
        ("broken", BROKEN, "RuntimeError: no key in the settings"),
        ("needy", NEEDY, "a_module_that_nobody_has"),
        ("nothing", "x = 1\n", "make"),
        ("wrong", "def make(:\n", "SyntaxError"),
    ],
)
def test_an_agent_that_cannot_be_made_is_told_to_the_chat_with_the_reason(
    start: Callable[..., Daemon], module: str, code: str, why: str
) -> None:
    daemon = start(module, code)
    done = daemon.ctl("chat", input="hello\n")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert why in done.stderr, done.stderr
    assert daemon.ctl("status").returncode == 0


def test_the_demo_shows_its_commands_tools_and_itself(make_home: Callable[[str], Path]) -> None:
    with Daemon(make_home("home"), json.dumps({"mcp_servers": {"time": TIME}})) as daemon:
        daemon.start()
        done = daemon.ctl("chat", input="!help\n!tools\n!whoami\n!env\n!file note.txt\n!nonsense\n")
        assert done.returncode == 0, done.stderr
        for command in ("!tools", "!call", "!ask", "!file", "!stream", "!sleep", "!spin", "!crash", "!fail"):
            assert command in done.stdout
        assert "time.get_current_time - " in done.stdout
        assert f"worker pid {daemon.worker_of(DM)['pid']}" in done.stdout
        assert "There is no !nonsense" in done.stdout
