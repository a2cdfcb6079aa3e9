"""A model id that answers 400: every message is answered with the error, and nothing is built or started again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.aimock import aimock, has_aimock
from harness.figures import summary
from harness.running import TIME
from harness.scene import Scene

SESSIONS = 10

FIXTURES = (
    {"match": {"model": "gone"}, "response": {"error": {"message": "no model gone"}, "status": 400}},
    {"match": {"userMessage": "the time", "hasToolResult": False},
     "response": {"toolCalls": [{"name": "time_get_current_time", "arguments": {"timezone": "UTC"}}]}},
    {"match": {}, "response": {"content": "As you say."}},
)  # fmt: skip

Built = dict[str, tuple[int, tuple[int, ...]]]

TOLD = "refused the request for the model gone (400): no model gone"


def run(times: int, seed: int, say: Callable[[str], None], *, messages: int = 100) -> dict[str, Any]:
    """``messages``: of each session in a round; the seed chooses which sessions fail first."""
    assert has_aimock(), "there is no aimock in tests/node: npm ci --prefix tests/node"
    chance = random.Random(seed)
    result: dict[str, Any] = {"sessions": SESSIONS, "messages": 0}
    waits: list[float] = []
    with aimock(*FIXTURES) as endpoint, Scene(servers={"time": TIME}) as scene:
        model = {"default": "good", "base_url": endpoint.url, "api_key": "sk-none", "provider": "custom"}
        scene.configure_llm(model)
        scene.configure_ours(workers={"max": SESSIONS + 1, "max_turns": SESSIONS, "idle_timeout": "12h"})
        scene.start()
        chats = [f"chat{number}" for number in range(SESSIONS)]
        with ThreadPoolExecutor(SESSIONS) as people:
            list(people.map(lambda chat: scene.fake.talk("the time", chat=chat), chats))
            before = _built(scene)
            assert all(servers for _, servers in before.values()), f"a session has no server: {before}"
            for number in range(times):
                chance.shuffle(chats)
                _use(scene, "gone")
                counts = list(people.map(lambda chat: _fail(scene, chat, messages, waits), chats))
                result["messages"] += sum(counts)
                _count_again(before, _built(scene), result)
                _use(scene, "good")
                for text in people.map(lambda chat: scene.fake.talk("well?", chat=chat), chats):
                    assert text == "As you say.", text
                _count_again(before, _built(scene), result)
                say(f"round {number + 1}: {result['messages']} messages were answered with the error")
        log = (scene.daemon.home / "hermesd/logs/hermesd.log").read_text()
        assert "cannot make the agent" not in log
        result["waits"] = summary(waits)
    return result


def _count_again(before: Built, now: Built, result: dict[str, Any]) -> None:
    assert before.keys() == now.keys(), f"sessions without a worker: {before.keys() ^ now.keys()}"
    result["agents_rebuilt"] = sum(before[session][0] != now[session][0] for session in before)
    result["servers_started_again"] = sum(len({*now[session][1]} - {*before[session][1]}) for session in before)
    assert before == now, f"built again: {now} instead of {before}"


def _fail(scene: Scene, chat: str, messages: int, waits: list[float]) -> int:
    for number in range(messages):
        began = time.monotonic()
        text = scene.fake.talk(f"message {number}", chat=chat)
        waits.append(time.monotonic() - began)
        assert TOLD in text, text
    return messages


def _use(scene: Scene, name: str) -> None:
    """Mend, or break, the model of a hermesd that runs."""
    scene.configure_llm({"default": name})
    done = scene.daemon.ctl("reload")
    assert done.returncode == 0, done.stderr


def _built(scene: Scene) -> Built:
    """Of each session the process of its agent, which makes one in its life, and those of its MCP servers."""
    return {
        row["session"]: (row["pid"], tuple(server["pid"] for server in row["mcp"] if server["pid"]))
        for row in scene.daemon.workers()
    }
