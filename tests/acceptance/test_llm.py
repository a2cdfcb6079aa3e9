"""The agent ``llm`` in the workers of the installed hermesd, with real MCP servers and a model that others wrote."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.aimock import AiMock, aimock, has_aimock
from harness.chat import Chat
from harness.lacking import lacking
from harness.memory import memory_of
from harness.running import TIME, wait_until
from harness.scene import Scene

KEY = "sk-canary-0123456789abcdef0123456789"

LOCAL = "agent:main:local:dm:stopped"


def calls(text: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"match": {"userMessage": text, "hasToolResult": False}, "response": {"toolCalls": list(calls)}}


def answers(text: str, content: str, **more: Any) -> dict[str, Any]:
    return {"match": {"userMessage": text, "hasToolResult": True}, "response": {"content": content}, **more}


NOW = {"id": "now1", "name": "time_get_current_time", "arguments": {"timezone": "UTC"}}
NEVER = {"id": "never1", "name": "slow_hang", "arguments": {}}

FIXTURES = [
    {"match": {"userMessage": "hello", "model": "gpt-4o"}, "response": {"content": "Hello from a model."}},
    {"match": {"model": "gone"}, "response": {"error": {"message": "there is no model gone"}, "status": 400}},
    calls("the time", NOW),
    answers("the time", "I have looked at the clock."),
    calls("look, then think", NOW),
    answers("look, then think", "I have thought.", latency=500),
    {"match": {"userMessage": "a long story"}, "response": {"content": "word " * 200}, "latency": 200},
]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Scene, AiMock]]:
    if not has_aimock():
        lacking("no aimock: npm ci --prefix tests/node")
    with aimock(*FIXTURES) as endpoint, Scene(servers={"time": TIME}, ours={"busy": "steer"}) as scene:
        scene.configure_llm({"default": "gpt-4o", "base_url": endpoint.url, "api_key": "${MY_MODEL_KEY}"})
        (scene.daemon.home / ".env").write_text(f"MY_MODEL_KEY={KEY}\n")
        scene.start()
        yield scene, endpoint


@pytest.fixture
def scene(shared: tuple[Scene, AiMock]) -> Iterator[Scene]:
    """With the configuration of its start, before the test and after it."""
    scene, endpoint = shared
    endpoint.forget()
    with scene.configuration_kept():
        yield scene


@pytest.fixture
def endpoint(shared: tuple[Scene, AiMock]) -> AiMock:
    return shared[1]


def approvals(scene: Scene, *globs: str) -> None:
    path = scene.daemon.home / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "approvals": {"tools": globs}}))
    assert scene.daemon.ctl("reload").returncode == 0


def test_a_message_is_answered_by_the_model_and_its_usage_arrives(scene: Scene) -> None:
    message = scene.fake.say("hello", chat="plain")
    final = scene.fake.final(message, chat="plain")
    assert final["text"] == "Hello from a model."
    assert final["usage"]["prompt_tokens"] > 0
    assert final["usage"]["completion_tokens"] > 0
    shown = scene.daemon.ctl("sessions", "show", scene.session("plain")).stdout
    assert f"Tokens      {final['usage']['prompt_tokens']:,} in prompts" in shown
    assert scene.worker("plain")["usage"] == final["usage"]


def test_a_tool_of_a_real_server_is_called_and_the_model_gets_what_it_says(scene: Scene, endpoint: AiMock) -> None:
    assert scene.fake.talk("the time, please", chat="tools") == "I have looked at the clock."
    result = endpoint.requests()[-1]["messages"][-1]
    assert json.loads(result["content"])["timezone"] == "UTC"
    assert [server["state"] for server in scene.worker("tools")["mcp"]] == ["ready"]


def test_after_a_reload_with_a_mended_model_the_next_message_succeeds_in_the_same_worker(scene: Scene) -> None:
    scene.fake.talk("the time, please", chat="mended")
    before = scene.worker("mended")
    scene.configure_llm({"default": "gone"})
    assert "model.default" in scene.daemon.ctl("reload").stdout
    told = scene.fake.talk("hello", chat="mended")
    assert "refused the request for the model gone (400): there is no model gone" in told
    scene.configure_llm({"default": "gpt-4o"})
    assert scene.daemon.ctl("reload").returncode == 0
    assert scene.fake.talk("hello", chat="mended") == "Hello from a model."
    after = scene.worker("mended")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0)
    assert [server["pid"] for server in after["mcp"]] == [server["pid"] for server in before["mcp"]]


def test_a_worker_that_dies_between_two_steps_costs_no_finished_tool_a_second_run(
    scene: Scene, endpoint: AiMock
) -> None:
    message = scene.fake.say("look, then think", chat="lost")
    wait_until(lambda: len(endpoint.requests()) == 2, what="the request after the tool's result")
    with endpoint.paused():
        os.kill(scene.worker("lost")["pid"], signal.SIGKILL)
        assert "/retry" in scene.fake.final(message, chat="lost")["text"]
    endpoint.forget()
    assert scene.fake.talk("/retry", chat="lost") == "I have thought."
    (body,) = endpoint.requests()
    assert [one["role"] for one in body["messages"]] == ["system", "user", "assistant", "tool"]
    # The worker removes them when it hears that the answer is on disk, and by then its chat may have it.
    work = scene.daemon.home / "hermesd/work"
    wait_until(lambda: not list(work.glob("*/.llm/steps.jsonl")), what="no steps are left to go on from")


def test_stop_ends_the_request_at_once_and_what_was_said_is_kept(scene: Scene, endpoint: AiMock) -> None:
    with Chat(scene.daemon, "stopped") as chat:
        chat.say("a long story")
        chat.wait("delta", "word")
        worker = scene.daemon.worker_of(LOCAL)["pid"]
        with endpoint.paused():
            chat.say("/stop")
            text = chat.wait("answer", r"\(interrupted\)$")
        assert text.startswith("word")
        chat.say("hello")
        chat.wait("answer", "^Hello from a model.$")
        assert scene.daemon.worker_of(LOCAL)["pid"] == worker, "one that does not end its turn at once is killed"


def test_a_marked_tool_waits_for_its_user_and_a_plain_approve_is_for_once(scene: Scene) -> None:
    approvals(scene, "time_*")
    message = scene.fake.say("the time, please", chat="asked")
    question = scene.fake.wait_shown("May I call time.get_current_time", chat="asked")
    assert "one of: once, session, always, deny" in question["text"]
    assert scene.fake.talk("/approve", chat="asked") == "Answered: approve."
    assert scene.fake.final(message, chat="asked")["text"] == "I have looked at the clock."
    message = scene.fake.say("the time, please", chat="asked")
    wait_until(lambda: len([one for one in scene.fake.shown(chat="asked") if one["kind"] == "question"]) == 2)
    scene.fake.talk("/approve session", chat="asked")
    scene.fake.final(message, chat="asked")
    assert scene.fake.talk("the time, please", chat="asked") == "I have looked at the clock."


def test_a_refused_tool_is_not_called(scene: Scene, endpoint: AiMock) -> None:
    approvals(scene, "time.*")
    message = scene.fake.say("the time, please", chat="denied")
    scene.fake.wait_shown("May I call", chat="denied")
    scene.fake.say("/deny", chat="denied")
    scene.fake.final(message, chat="denied")
    assert "denied" in endpoint.requests()[-1]["messages"][-1]["content"]
    assert [server["pid"] for server in scene.worker("denied")["mcp"] if server["state"] != "ready"] == []


def test_the_key_is_in_no_argument_environment_or_log_and_in_no_process_of_a_server(scene: Scene) -> None:
    scene.fake.talk("the time, please", chat="secret")
    row = scene.worker("secret")
    looked = 0
    for pid in scene.daemon.processes():
        for name in ("environ", "cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                assert KEY.encode() not in Path(f"/proc/{pid}/{name}").read_bytes(), f"{name} of {pid}"
                looked += 1
    assert looked > 6
    (server,) = row["mcp"]
    assert KEY.encode() not in memory_of(server["pid"])
    assert KEY.encode() in memory_of(row["pid"]), "or the search finds nothing at all"
    for path in (scene.daemon.home / "hermesd").rglob("*"):
        if path.is_file() and path.suffix in (".log", ".json", ".jsonl", ".txt", ".stack"):
            assert KEY.encode() not in path.read_bytes(), path
    for path in (scene.daemon.home / "hermesd/logs").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_wrong_key_is_not_repeated_to_the_chat_or_the_log(scene: Scene) -> None:
    """An endpoint may say it all back."""
    wrong = "sk-wrong-abcdefabcdefabcdef"
    error = {"error": {"message": f"Incorrect API key provided: {wrong}"}, "status": 401}
    with aimock({"match": {}, "response": error}) as other:
        scene.configure_llm({"base_url": other.url, "api_key": wrong})
        scene.daemon.ctl("reload")
        told = scene.fake.talk("hello", chat="wrong")
        assert "did not accept the key" in told
        assert wrong not in told
        assert wrong not in (scene.daemon.home / "hermesd/logs/hermesd.log").read_text()
    # The endpoint's own address is part of the configuration again at the end of the test.
    path = scene.daemon.home / "config.yaml"
    assert wrong in path.read_text()


def test_config_check_names_what_the_agent_lacks(scene: Scene) -> None:
    path = scene.daemon.home / "config.yaml"
    path.write_text(json.dumps({"hermesd": {"agent": "llm"}}))
    done = scene.daemon.ctl("config", "check")
    assert done.returncode == 6
    assert "model: names no model" in done.stderr
