"""What is said and asked during turns of the real hermes-agent: steering, stops, questions, images, its jobs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.aimock import AiMock
from harness.chat import Chat
from harness.figures import StopWatch
from harness.hermes.scene import MODEL, answers, asks, call, conversation, steps, why_not
from harness.lacking import lacking
from harness.running import wait_until
from harness.scene import Scene

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

WINE = "At this hour a red one, from the north: it has stood in the cool, and the glasses are there as well."

ANN = "ann"
"""One conversation of most tests: each worker more imports hermes-agent and starts two servers."""

WAITS = "until test -e ../../../go; do sleep 0.05; done"
"""For a file of this name in the home: a tool runs in its session's directory, in ``hermesd/work``."""

FIXTURES = [
    {"match": {"userMessage": "stumble", "model": "gpt-4o"},
     "response": {"error": {"message": "there is no model gpt-4o today"}, "status": 400}},
    {"match": {"userMessage": "stumble", "model": "second", "hasToolResult": False},
     "response": {"toolCalls": [call("mcp_time_get_current_time", timezone="UTC")]}},
    {"match": {"userMessage": "stumble", "model": "second", "hasToolResult": True},
     "response": {"content": "I stood in."}},
    asks("look around", call("mcp_time_get_current_time", timezone="UTC"), call("mcp_files_list_allowed_directories")),
    answers("look around", "I have looked."),
    asks("which wine", call("mcp_time_get_current_time", timezone="UTC")),
    {**answers("which wine", WINE), "latency": 250},
    {"match": {"userMessage": "of which year"}, "response": {"content": "Of 1999."}},
    {"match": {"userMessage": "and then"}, "response": {"content": "Then we drink it."}},
    asks("take your time", call("terminal", command=WAITS), content="One moment."),
    answers("take your time", "I took it."),
    asks("go to bed", call("terminal", command="sleep 61", background=True)),
    answers("go to bed", "It sleeps."),
    asks("wait for it", call("mcp_late_slow", seconds=600)),
    asks("red or white", call("clarify", question="Which one?", choices=["red", "white"])),
    answers("red or white", "Then that."),
    asks("who am I", call("terminal", command="env | grep ^HERMES_SESSION | sort")),
    answers("who am I", "That is you."),
    asks("become another", call("terminal", command="true")),
    answers("become another", "I have changed."),
    *(
        fixture
        for name in ("one", "two", "three", "four")
        for fixture in (asks(f"drop {name}", call("terminal", command=f"rm -rf ./no-{name}")),
                        answers(f"drop {name}", f"Dropped {name}."))
    ),
    asks("water the plants", call("terminal", command="rm -rf ./weeds")),
    answers("water the plants", "They are wet."),
    {"match": {"userMessage": "feed the cat"}, "response": {"content": "She is full."}},
    {"match": {"userMessage": "ring the bell"}, "response": {"content": "It rang."}},
    {"match": {"userMessage": "what is on it"}, "response": {"content": "One pixel."}},
    {"match": {}, "response": {"content": "Good day."}},
]  # fmt: skip

ANOTHER = """
import gc

def become(**given):
    if "become another" in str(given.get("user_message")):
        import run_agent
        for agent in gc.get_objects():
            if isinstance(agent, run_agent.AIAgent):
                agent.session_id = "another-session"

def register(context):
    context.register_hook("pre_llm_call", become)
"""
"""A plugin of hermes-agent's that does to the attribute what a compression does."""


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Scene, AiMock]]:
    if reason := why_not():
        lacking(reason)
    made = conversation(
        *FIXTURES,
        ours={"busy": "steer"},
        fake={"can": ["edit", "fetch"]},
        streaming={"edit_interval": 0.1},
        plugins={"another": ANOTHER},
        platform_toolsets={"cli": ["terminal", "clarify"], "cron": ["terminal"]},
        model={"supports_vision": True},
    )
    with made as (scene, endpoint):
        second = {**MODEL, "model": "second", "base_url": endpoint.url}
        path = scene.daemon.home / "config.yaml"
        config = json.loads(path.read_text("utf-8"))
        config["fallback_providers"] = [second]
        config["mcp_servers"]["slow"] = {
            **scene.hostile("be_plain"), "tools": {"include": ["slow"]}, "tools_wait": 60,
        }  # fmt: skip
        config["mcp_servers"]["late"] = config["mcp_servers"]["slow"]
        path.write_text(json.dumps(config), "utf-8")
        assert scene.daemon.ctl("reload").returncode == 0
        yield scene, endpoint


@pytest.fixture
def scene(shared: tuple[Scene, AiMock]) -> Scene:
    shared[1].forget()
    return shared[0]


@pytest.fixture
def endpoint(shared: tuple[Scene, AiMock]) -> AiMock:
    return shared[1]


def servers(scene: Scene, chat: str) -> dict[str, int]:
    return {server["name"]: server["pid"] for server in scene.worker(chat)["mcp"] if server["pid"]}


def results(endpoint: AiMock) -> list[str]:
    """What tools said, as the model's last request has them."""
    return [one["content"] for one in steps(endpoint)[-1]["messages"] if one["role"] == "tool"]


def states(scene: Scene, chat: str) -> dict[str, str]:
    return {server["name"]: server["state"] for server in scene.worker(chat)["mcp"]}


def told_since(endpoint: AiMock, text: str) -> list[dict[str, Any]]:
    """Of the model's last request, what was said from this message of the user's on."""
    messages: list[dict[str, Any]] = steps(endpoint)[-1]["messages"]
    first = max(at for at, one in enumerate(messages) if (one["role"], one["content"]) == ("user", text))
    return messages[first:]


def logged(scene: Scene, chat: str) -> str:
    return scene.daemon.ctl("logs", "--session", scene.session(chat), "-n", "100000", "--json").stdout


def test_a_fallback_answers_once_and_the_primary_is_back_without_touching_servers(
    scene: Scene, endpoint: AiMock
) -> None:
    scene.fake.talk("look around", chat=ANN)
    before, pid, made = servers(scene, ANN), scene.worker(ANN)["pid"], logged(scene, ANN).count("made an AIAgent")
    assert {"files", "time"} <= before.keys()
    endpoint.forget()
    assert scene.fake.talk("stumble", chat=ANN) == "I stood in."
    assert scene.fake.talk("hello", chat=ANN) == "Good day."
    asked = [one["model"] for one in steps(endpoint)]
    assert (asked[0], asked[-2:]) == ("gpt-4o", ["second", "gpt-4o"])
    assert (servers(scene, ANN), scene.worker(ANN)["pid"]) == (before, pid)
    assert logged(scene, ANN).count("made an AIAgent") == made


def test_what_is_said_during_the_last_answer_is_answered_after_it_and_all_of_it_is_remembered(
    scene: Scene, endpoint: AiMock
) -> None:
    message = scene.fake.say("which wine", chat=ANN)
    scene.fake.wait_shown(WINE[:20], chat=ANN)
    with endpoint.paused():
        said = scene.fake.say("of which year?", chat=ANN)
        assert "Passed on" in scene.fake.final(said, chat=ANN)["text"]
    assert scene.fake.final(message, chat=ANN)["text"] == f"{WINE}\n\nOf 1999."
    assert scene.fake.talk("and then?", chat=ANN) == "Then we drink it."
    told = told_since(endpoint, "which wine")
    assert [one["role"] for one in told] == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    assert [one["content"] for one in told if one["role"] == "user"] == ["which wine", "of which year?", "and then?"]


def test_what_is_said_while_a_tool_runs_comes_with_its_result(scene: Scene, endpoint: AiMock) -> None:
    message = scene.fake.say("take your time", chat=ANN)
    scene.fake.wait_shown("One moment.", chat=ANN)
    said = scene.fake.say("a little faster", chat=ANN)
    assert "Passed on" in scene.fake.final(said, chat=ANN)["text"]
    (scene.daemon.home / "go").touch()
    assert scene.fake.final(message, chat=ANN)["text"].endswith("I took it.")
    assert "a little faster" in results(endpoint)[-1]


def test_tools_and_steps_are_shown_as_they_come(scene: Scene) -> None:
    with Chat(scene.daemon, "watcher") as chat:
        chat.say("look around")
        looked = "\n".join(event["text"] for event in chat.seen("answer") if event["kind"] == "status")
        for word in ("time.get_current_time", "files.list_allowed_directories", "step 2"):
            assert word in looked
        chat.say("stumble")
        stumbled = "\n".join(event["text"] for event in chat.seen("answer") if event["kind"] == "status")
        assert "second" in stumbled, "hermes-agent's own status: the model it falls back to"


def test_a_stop_ends_a_call_of_a_server_and_what_the_agent_has_spawned_is_listed(scene: Scene) -> None:
    assert scene.fake.talk("go to bed", chat=ANN) == "It sleeps."
    assert "sleep 61" in scene.daemon.ctl("ps", "--tree").stdout
    pid, asked = scene.worker(ANN)["pid"], logged(scene, ANN).count("API call #")
    message = scene.fake.say("wait for it", chat=ANN)
    # A server may be ready for its list alone: the call comes with the model's answer.
    wait_until(lambda: logged(scene, ANN).count("API call #") > asked, 30.0)
    wait_until(lambda: {"late": "ready"}.items() <= states(scene, ANN).items(), 30.0)
    before = servers(scene, ANN)
    watch = StopWatch()
    scene.fake.talk("/stop", chat=ANN)
    assert "interrupted" in str(scene.fake.final(message, chat=ANN)).lower()
    assert watch.seconds() < 10.0
    wait_until(lambda: "late" not in servers(scene, ANN), what="an end of what was cut off")
    del before["late"]
    assert servers(scene, ANN) == before
    assert scene.worker(ANN)["pid"] == pid
    assert scene.fake.talk("hello", chat=ANN) == "Good day."


def test_a_question_of_the_models_is_put_to_the_user(scene: Scene, endpoint: AiMock) -> None:
    message = scene.fake.say("red or white", chat=ANN)
    question = scene.fake.wait_shown("Which one?", chat=ANN)
    assert question["kind"] == "question"
    scene.fake.talk("/approve white", chat=ANN)
    assert scene.fake.final(message, chat=ANN)["text"] == "Then that."
    assert json.loads(results(endpoint)[-1])["user_response"] == "white"


def test_an_approval_holds_as_long_as_was_said(scene: Scene) -> None:
    def drop(name: str, chat: str, answer: str = "") -> bool:
        """Whether it was asked for."""
        message = scene.fake.say(f"drop {name}", chat=chat)
        if answer:
            scene.fake.wait_shown(f"`rm -rf ./no-{name}`", chat=chat)
            scene.fake.talk(answer, chat=chat)
        assert scene.fake.final(message, chat=chat)["text"] == f"Dropped {name}."
        return any(f"`rm -rf ./no-{name}`" in shown["text"] for shown in scene.fake.shown(chat=chat))

    assert drop("one", ANN, "/approve session")
    assert not drop("two", ANN)
    assert drop("one", "careful", "/approve always")
    assert scene.daemon.ctl("restart", scene.session(ANN)).returncode == 0
    assert not drop("three", ANN), "it was approved for ever, in every conversation"
    assert not drop("four", "careful")


def test_its_threads_know_whose_conversation_it_is_and_a_new_session_of_its_own_is_followed(
    scene: Scene, endpoint: AiMock
) -> None:
    def env() -> dict[str, str]:
        assert scene.fake.talk("who am I", chat=ANN) == "That is you."
        return dict(line.split("=", 1) for line in json.loads(results(endpoint)[-1])["output"].splitlines())

    first = env()
    wanted = {"PLATFORM": "fake", "CHAT_ID": ANN, "USER_ID": "user", "KEY": scene.session(ANN)}
    assert {name: first.get(f"HERMES_SESSION_{name}") for name in wanted} == wanted
    assert scene.fake.talk("become another", chat=ANN) == "I have changed."
    wait_until(lambda: "hermes-agent's session is another-session now" in logged(scene, ANN), what="a word of it")
    assert scene.daemon.ctl("restart", scene.session(ANN)).returncode == 0
    again = env()
    assert (first["HERMES_SESSION_ID"], again["HERMES_SESSION_ID"]) != ("another-session", first["HERMES_SESSION_ID"])
    assert again["HERMES_SESSION_ID"] == "another-session"
    users = [one["content"] for one in steps(endpoint)[-1]["messages"] if one["role"] == "user"]
    assert users[-3:] == ["who am I", "become another", "who am I"]


def test_an_image_is_given_to_a_model_that_sees(scene: Scene, endpoint: AiMock) -> None:
    image = {"name": "one.png", "mime": "image/png", "kind": "image", "base64": PIXEL}
    said = scene.fake.ask("say", text="what is on it?", chat=ANN, user="user", trusted=True, files=[image])
    assert scene.fake.final(said["message_id"], chat=ANN)["text"] == "One pixel."
    parts = [one for one in steps(endpoint)[-1]["messages"] if one["role"] == "user"][-1]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]
    assert base64.b64decode(parts[1]["image_url"]["url"].partition("base64,")[2]) == base64.b64decode(PIXEL)


def job(name: str, chat: str, prompt: str, **more: Any) -> dict[str, Any]:
    due = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    return {
        "id": name, "name": name, "prompt": prompt, "deliver": "origin", "enabled": True, "state": "scheduled",
        "origin": {"platform": "fake", "chat_id": chat, "thread_id": None}, "next_run_at": due, "last_run_at": None,
        "schedule": {"kind": "once", "run_at": due, "display": "once"}, "repeat": {"times": 1, "completed": 0}, **more,
    }  # fmt: skip


def test_each_conversation_runs_its_own_jobs_and_leaves_all_others_as_they_are(scene: Scene, endpoint: AiMock) -> None:
    path = scene.daemon.home / "cron" / "jobs.json"
    late = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    often = {"schedule": {"kind": "interval", "minutes": 60}, "repeat": None, "next_run_at": late}
    others = [job("cat", "gardener2", "feed the cat"), job("bell", "gardener2", "ring the bell", **often)]
    # In one piece: workers of other conversations look into it as well, and would mend a half of it.
    whole = path.with_name("jobs.new")
    whole.parent.mkdir(exist_ok=True)
    whole.write_text(json.dumps({"jobs": [job("weeds", "gardener1", "water the plants"), *others]}))
    whole.rename(path)

    def jobs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["jobs"]
        return found

    assert scene.fake.talk("hello", chat="gardener1") == "Good day."
    scene.fake.wait_shown("They are wet.", chat="gardener1")
    # The job runs beside the turn: the model's last request may be either's.
    said = [one["content"] for body in steps(endpoint) for one in body["messages"] if one["role"] == "tool"]
    assert any("cron jobs run without a user" in result for result in said), said
    wait_until(lambda: [one["id"] for one in jobs()] == ["cat", "bell"])
    assert jobs() == others, "what others' workers are to run is as it was"
    assert scene.fake.talk("hello", chat="gardener2") == "Good day."
    scene.fake.wait_shown("She is full.", chat="gardener2")
    scene.fake.wait_shown("It rang.", chat="gardener2")
    wait_until(lambda: [one["id"] for one in jobs()] == ["bell"])
    for chat, text in (("gardener1", "They are wet."), ("gardener2", "She is full."), ("gardener2", "It rang.")):
        assert [text in one["text"] for one in scene.fake.shown(chat=chat)].count(True) == 1
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_worker_that_was_idle_too_long_wakes_with_its_conversation(scene: Scene, endpoint: AiMock) -> None:
    assert scene.fake.talk("look around", chat=ANN) == "I have looked."
    pid = scene.worker(ANN)["pid"]
    before = (scene.daemon.home / "config.yaml").read_text("utf-8")
    scene.configure_ours(workers={"spare": 0, "idle_timeout": "1s"})
    assert scene.daemon.ctl("reload").returncode == 0
    wait_until(lambda: not psutil.pid_exists(pid), 30.0, what="hibernation")
    (scene.daemon.home / "config.yaml").write_text(before, "utf-8")
    assert scene.daemon.ctl("reload").returncode == 0
    assert scene.fake.talk("hello", chat=ANN) == "Good day."
    told = [one["role"] for one in told_since(endpoint, "look around")]
    assert told == ["user", "assistant", "tool", "tool", "assistant", "user"]
