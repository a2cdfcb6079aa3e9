"""The agent ``hermes``: the real hermes-agent in the workers of the installed hermesd, with two real MCP servers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.aimock import AiMock
from harness.chat import Chat
from harness.figures import StopWatch
from harness.hermes.environment import PYTHON
from harness.hermes.scene import answers, asks, call, conversation, steps, why_not
from harness.lacking import lacking
from harness.memory import memory_of
from harness.running import wait_until
from harness.scene import Scene

FIXTURES = [
    {"match": {"model": "gone"}, "response": {"error": {"message": "there is no model gone"}, "status": 400}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello from a model."}},
    {"match": {"userMessage": "a long story"}, "response": {"content": "word " * 200}, "latency": 200},
    asks("the time", call("mcp_time_get_current_time", timezone="UTC"), content="Let me look."),
    answers("the time", "I have looked at the clock."),
    asks("keep the cat", call("mcp_files_write_file", path="cat.txt", content="Zephyrine is grey")),
    answers("keep the cat", "I shall remember her."),
    asks(
        "which cat",
        call("mcp_files_read_text_file", path="cat.txt"),
        call("mcp_time_get_current_time", timezone="Asia/Tokyo"),
    ),
    answers("which cat", "Zephyrine, who is grey."),
    asks("no such zone", call("mcp_time_get_current_time", timezone="Nowhere/Land")),
    answers("no such zone", "There is no such zone."),
    asks("tell bert", call("send_message", target="fake:bert", message="Ann says hello")),
    answers("tell bert", "Bert knows."),
    asks("tell a stranger", call("send_message", target="fake:nobody", message="psst")),
    answers("tell a stranger", "I tried."),
    asks("clean up", call("terminal", command="rm -rf ./nothing-here")),
    answers("clean up", "That is that."),
    asks("tidy up", call("terminal", command="rm -rf ./nothing-there")),
    answers("tidy up", "That is that."),
    asks("wait for it", call("terminal", command="env; sleep 60")),
    answers("wait for it", "It came."),
]

TOKENS = [
    f"{platform}_{kind}"
    for platform in (
        "TELEGRAM",
        "DISCORD",
        "MATRIX",
        "SLACK",
        "WHATSAPP",
        "EMAIL",
        "SIGNAL",
        "TWILIO",
        "FEISHU",
        "HASS",
    )
    for kind in ("BOT_TOKEN", "ACCESS_TOKEN", "PASSWORD", "SECRET")
]
"""Forty, in the environment of hermesd or in its ``.env``."""


def canary(name: str) -> str:
    return f"c4n4ry-{name.lower().replace('_', '-')}-0123456789"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Scene, AiMock]]:
    if reason := why_not():
        lacking(reason)
    env = {name: canary(name) for name in TOKENS[::2]}
    dotenv = "".join(f"{name}={canary(name)}\n" for name in TOKENS[1::2])
    off = {name: {"enabled": False, "token": canary(f"{name}_FILE")} for name in ("telegram", "discord", "matrix")}
    with conversation(*FIXTURES, env=env, dotenv=dotenv, platforms=off) as (scene, endpoint):
        yield scene, endpoint


@pytest.fixture
def scene(shared: tuple[Scene, AiMock]) -> Scene:
    shared[1].forget()
    return shared[0]


@pytest.fixture
def endpoint(shared: tuple[Scene, AiMock]) -> AiMock:
    return shared[1]


def servers(scene: Scene, chat: str) -> dict[str, int]:
    return {server["name"]: server["pid"] for server in scene.worker(chat)["mcp"]}


def made(scene: Scene, chat: str) -> int:
    """How many AIAgents the worker of a chat has made."""
    done = scene.daemon.ctl("logs", "--session", scene.session(chat), "-n", "1000000", "--json")
    return done.stdout.count("made an AIAgent")


def test_ten_turns_with_two_servers(scene: Scene, endpoint: AiMock) -> None:
    scene.fake.talk("hello", chat="bert")
    said = [
        ("hello", "Hello from a model."),
        ("the time, please", "Let me look.\n\nI have looked at the clock."),
        ("keep the cat in mind", "I shall remember her."),
        ("which cat is it?", "Zephyrine, who is grey."),
        ("now in no such zone", "There is no such zone."),
        ("hello again", "Hello from a model."),
        ("tell bert", "Bert knows."),
        ("tell a stranger", "I tried."),
        ("which cat was it?", "Zephyrine, who is grey."),
        ("hello once more", "Hello from a model."),
    ]
    for text, answer in said:
        assert scene.fake.talk(text, chat="anna") == answer
    requests = steps(endpoint)
    results = [one["content"] for one in requests[-1]["messages"] if one["role"] == "tool"]
    assert "UTC" in results[0]
    assert json.loads(results[2]) == {"result": "Zephyrine is grey"}
    assert "error" in results[4], "an error of a tool is the model's to deal with"
    users = [one["content"] for one in requests[-1]["messages"] if one["role"] == "user"]
    assert [text for text, _ in said if not any(text in user for user in users)] == []
    names = {tool["function"]["name"] for tool in requests[0]["tools"]}
    assert {"mcp_time_get_current_time", "mcp_files_read_text_file", "send_message", "terminal"} <= names
    assert not {name for name in names if name.startswith("mcp__")}, "hermes-agent has started servers of its own"
    worker = scene.worker("anna")
    assert worker["restarts"] == 0
    assert sorted(servers(scene, "anna")) == ["files", "time"]
    assert all(psutil.Process(pid).is_running() for pid in servers(scene, "anna").values())
    assert made(scene, "anna") == 1
    assert scene.fake.wait_shown("Ann says hello", chat="bert")
    assert scene.fake.wait_shown("nobody has ever written from 'fake:nobody'", chat="anna")


def test_a_failing_model_rebuilds_nothing_and_a_mended_one_answers_the_next_message(
    scene: Scene, endpoint: AiMock
) -> None:
    assert scene.fake.talk("the time, please", chat="mended").endswith("clock.")
    before, pid = servers(scene, "mended"), scene.worker("mended")["pid"]
    scene.configure_section("model", {"default": "gone"})
    assert scene.daemon.ctl("reload").returncode == 0
    for number in range(3):
        assert "there is no model gone" in scene.fake.talk(f"hello {number}", chat="mended")
    assert made(scene, "mended") == 2, "one for each model, none for a failure"
    scene.configure_section("model", {"default": "gpt-4o"})
    assert scene.daemon.ctl("reload").returncode == 0
    assert scene.fake.talk("hello", chat="mended") == "Hello from a model."
    assert (servers(scene, "mended"), scene.worker("mended")["pid"]) == (before, pid)
    last = steps(endpoint)[-1]["messages"]
    assert any(one["role"] == "tool" for one in last), "the conversation is the same"


def test_a_dangerous_command_waits_for_its_user(scene: Scene, endpoint: AiMock) -> None:
    for text, directory, answer, outcome in (
        ("clean up", "nothing-here", "/deny", "BLOCKED"),
        ("tidy up", "nothing-there", "/approve", "exit_code"),
    ):
        message = scene.fake.say(text, chat="asked")
        question = scene.fake.wait_shown(f"May I run `rm -rf ./{directory}`?", chat="asked", seconds=60.0)
        assert question["kind"] == "question"
        scene.fake.talk(answer, chat="asked")
        assert scene.fake.final(message, chat="asked")["text"] == "That is that."
        results = [one["content"] for one in steps(endpoint)[-1]["messages"] if one["role"] == "tool"]
        assert outcome in results[-1]


def _sleeps(worker: psutil.Process) -> bool:
    """Whether the command that the tool was asked for runs; what else there is comes and goes."""
    for process in worker.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "sleep" in process.name():
                return True
    return False


def test_no_token_of_a_platform_is_in_the_worker_or_below(scene: Scene) -> None:
    message = scene.fake.say("wait for it", chat="spied")
    key = scene.session("spied")
    # A row is there before its process is.
    rows = wait_until(lambda: [row for row in scene.daemon.workers() if row["session"] == key and row["pid"]], 60.0)
    worker = psutil.Process(rows[0]["pid"])
    wait_until(lambda: _sleeps(worker), 60.0)
    tree = [worker, *worker.children(recursive=True)]
    looked = set()
    for process in tree:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # what the tool starts beside comes and goes
            seen = Path(f"/proc/{process.pid}/environ").read_bytes() + memory_of(process.pid)
            assert seen.count(b"c4n4ry-") == 0, f"process {process.pid}"
            looked.add(process.pid)
    assert {worker.pid, *servers(scene, "spied").values()} <= looked
    assert _sleeps(worker)
    view = scene.daemon.home / "hermesd" / "hermes-home"
    for path in view.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            assert not path.is_file() or b"c4n4ry-" not in path.read_bytes(), path
    watch = StopWatch()
    scene.fake.talk("/stop", chat="spied")
    assert "interrupted" in str(scene.fake.final(message, chat="spied")).lower()
    assert watch.seconds() < 20.0
    wait_until(lambda: not _sleeps(worker), 10.0)
    assert scene.worker("spied")["pid"] == worker.pid
    assert scene.fake.talk("hello", chat="spied") == "Hello from a model."


def test_another_worker_of_a_session_knows_what_its_tools_said(scene: Scene, endpoint: AiMock) -> None:
    with Chat(scene.daemon, "woken") as chat:
        chat.say("the time, please")
        chat.wait("answer", "clock")
        assert scene.daemon.ctl("restart", "dm:woken").returncode == 0
        endpoint.forget()
        chat.say("hello")
        chat.wait("answer", "^Hello from a model.$")
    roles = [one["role"] for one in steps(endpoint)[-1]["messages"] if one["role"] != "system"]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_an_interpreter_that_lacks_something_is_told_before_anything_starts(tmp_path: Path) -> None:
    if reason := why_not():
        lacking(reason)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{PYTHON}" -S "$@"\n')
    bare.chmod(0o755)
    scene = Scene(ours={"agent": "hermes", "python": str(bare)})
    with scene:
        done: dict[str, Any] = {}
        for program, arguments in (("hermesd", ["--check"]), ("hermesd", []), ("hermesctl", ["doctor"])):
            import subprocess

            ran = subprocess.run(
                scene.daemon.command(program, *arguments),
                env=scene.daemon.env,
                capture_output=True,
                text=True,
                timeout=60,
            )
            done[" ".join((program, *arguments))] = ran.returncode
            assert f'"{bare}" lacks pyzmq>=26' in ran.stdout + ran.stderr
            assert f"{bare} -m pip install 'pyzmq>=26'" in ran.stdout + ran.stderr
        assert done == {"hermesd --check": 78, "hermesd": 78, "hermesctl doctor": 2}
