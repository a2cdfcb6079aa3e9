"""The agent ``llm`` in the workers of hermesd: what users and operators do to it while it is at work or rests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from harness.aimock import AiMock, aimock, has_aimock
from harness.chat import Chat
from harness.lacking import lacking
from harness.running import wait_until
from harness.scene import NODE, Scene, has_npx

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def calls(text: str, name: str, **arguments: Any) -> dict[str, Any]:
    call = {"id": f"call_{name}", "name": f"everything_{name}", "arguments": arguments}
    return {"match": {"userMessage": text, "hasToolResult": False}, "response": {"toolCalls": [call]}}


def answers(text: str, content: str, **more: Any) -> dict[str, Any]:
    return {"match": {"userMessage": text}, "response": {"content": content}, **more}


FIXTURES = [
    answers("Resource trigger-sampling-request context: a word", "swordfish"),
    calls("ask for a word", "trigger-sampling-request", prompt="a word", maxTokens=10),
    answers("ask for a word", "I have heard it."),
    calls("take an hour", "trigger-long-running-operation", duration=3600, steps=1),
    calls("say it back", "echo", message="I am here"),
    answers("say it back", "It was said."),
    answers("but quickly", "Quickly, then."),
    answers("without a word", "A picture."),
    answers("think about it", "I have thought.", latency=500),
    answers("be silent", "Too late.", latency=60_000),
    {"match": {}, "response": {"content": "As you say."}},
]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Scene, AiMock]]:
    if not has_aimock() or not has_npx():
        lacking("no aimock or no MCP servers from npm: npm ci --prefix tests/node")
    everything = {"command": str(NODE / "node_modules/.bin/mcp-server-everything"), "sampling": {"enabled": True}}
    everything["tools_wait"] = 60  # no machine is too slow for its tools to be there in the first turn
    home = Scene(servers={"everything": everything}, ours={"busy": "steer"}, fake={"can": ["fetch"]})
    with aimock(*FIXTURES) as endpoint, home as scene:
        scene.configure_llm(
            {"default": "gpt-4o", "base_url": endpoint.url}, system_prompt="Speak of birds.", reasoning_effort="high"
        )
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


def reload(scene: Scene, section: str, **settings: Any) -> None:
    scene.configure_section(section, settings)
    done = scene.daemon.ctl("reload")
    assert done.returncode == 0, done.stderr


def ready(scene: Scene, session: str) -> dict[str, Any] | None:
    """The row of a session's worker, once its MCP servers can be called."""
    row = scene.daemon.worker_of(session)
    return row if [server["state"] for server in row["mcp"]] == ["ready"] else None


def contents(body: dict[str, Any]) -> list[str]:
    return [str(message["content"] or "") for message in body["messages"]]


def test_prompt_and_effort_of_the_configuration_are_in_the_request(scene: Scene, endpoint: AiMock) -> None:
    scene.fake.talk("hello", chat="asked")
    (body,) = endpoint.requests()
    assert body["reasoning_effort"] == "high"
    assert body["messages"][0] == {"role": "system", "content": "Speak of birds."}


def test_a_word_during_an_answer_is_passed_on_and_has_its_answer_there(scene: Scene, endpoint: AiMock) -> None:
    message = scene.fake.say("think about it", chat="steered")
    wait_until(lambda: endpoint.requests(), what="the request")
    with endpoint.paused():
        assert scene.fake.talk("but quickly", chat="steered") == "Passed on to the answer that is being written."
    assert scene.fake.final(message, chat="steered")["text"] == "I have thought.\n\nQuickly, then."
    assert contents(endpoint.requests()[-1])[-3:] == ["think about it", "I have thought.", "but quickly"]


def test_a_photo_during_an_answer_has_one_of_its_own_and_the_next_worker_knows_of_it(
    scene: Scene, endpoint: AiMock
) -> None:
    scene.fake.say("think about it", chat="photo")
    wait_until(lambda: endpoint.requests(), what="the request")
    photo = {"name": "photo.png", "mime": "image/png", "kind": "image", "base64": PNG}
    sent = str(scene.fake.ask("say", text="", chat="photo", files=[photo], trusted=True)["message_id"])
    assert scene.fake.final(sent, chat="photo")["text"] == "A picture."
    pid = scene.worker("photo")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of its worker")
    assert scene.fake.talk("hello", chat="photo") == "As you say."
    told = contents(endpoint.requests()[-1])
    assert told[1:] == [
        "think about it", "I have thought.", "[The user sent photo.png, without a word.]", "A picture.", "hello",
    ]  # fmt: skip


def test_a_server_that_asks_the_model_gets_its_answer(scene: Scene, endpoint: AiMock) -> None:
    assert scene.fake.talk("ask for a word", chat="sampled") == "I have heard it."
    called, asked, told = endpoint.requests()
    assert asked["messages"][-1]["content"] == "Resource trigger-sampling-request context: a word"
    assert "tools" in called
    assert "tools" not in asked
    assert "swordfish" in told["messages"][-1]["content"]


def test_stop_during_a_call_ends_it_at_once_and_the_next_one_is_answered(scene: Scene, endpoint: AiMock) -> None:
    with Chat(scene.daemon, "stopped") as chat:
        chat.say("take an hour")
        # A server may be ready for its list alone: first the model wants the call, and then the server can be called.
        chat.wait("status", "trigger-long-running-operation started")
        before = wait_until(lambda: ready(scene, "agent:main:local:dm:stopped"), what="the call")
        server = before["mcp"][0]["pid"]
        chat.say("/stop")
        chat.wait("answer", "^Interrupted.$")
        chat.wait("notice", "Stopped.")
        wait_until(lambda: not os.path.exists(f"/proc/{server}"), what="the end of the server")
        chat.say("say it back")
        chat.wait("answer", "^It was said.$")
    assert "I am here" in contents(endpoint.requests()[-1])[-1]
    assert scene.daemon.worker_of(before["session"])["pid"] == before["pid"], "one that does not end at once is killed"


def test_a_question_that_cannot_be_delivered_is_a_no_at_once(scene: Scene, endpoint: AiMock) -> None:
    reload(scene, "approvals", tools=["everything_echo"])
    scene.fake.talk("hello", chat="denied")
    scene.fake.ask("cut", count=1, error="rejected")
    assert scene.fake.talk("say it back", chat="denied", seconds=10) == "It was said."
    assert "Nobody answered" in contents(endpoint.requests()[-1])[-1]
    assert scene.worker("denied")["mcp"] == [], "nothing was called"


def test_an_agent_that_shows_nothing_is_told_of_and_ended(scene: Scene) -> None:
    reload(scene, "agent", gateway_timeout=0, gateway_timeout_warning=0.1)
    message = scene.fake.say("be silent", chat="silent")
    scene.fake.wait_shown("Nothing has been heard of the agent", chat="silent")
    reload(scene, "agent", gateway_timeout=0.2)
    assert scene.fake.final(message, chat="silent")["text"] == "Stopped: the agent showed nothing for 0.2 s."
    reload(scene, "agent", gateway_timeout=0)
    assert scene.fake.talk("hello", chat="silent") == "As you say."


def test_a_conversation_that_hibernated_goes_on_with_its_tool_calls(scene: Scene, endpoint: AiMock) -> None:
    scene.fake.talk("say it back", chat="rests")
    pid = scene.worker("rests")["pid"]
    ours = json.loads((scene.daemon.home / "config.yaml").read_text())["hermesd"]
    reload(scene, "hermesd", workers={**ours.get("workers", {}), "idle_timeout": 0.1})
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of its worker")
    assert scene.fake.talk("hello", chat="rests") == "As you say."
    roles = [message["role"] for message in endpoint.requests()[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
