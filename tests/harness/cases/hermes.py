"""Conversations of the real hermes-agent, 0.19.0 and 0.13.0, with two MCP servers and a model that fails meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.figures import summary
from harness.hermes.environment import PYTHON, python_of
from harness.hermes.scene import answers, asks, call, conversation, steps, why_not
from harness.scene import Scene

FIXTURES = (
    {"match": {"model": "gone"}, "response": {"error": {"message": "no model gone"}, "status": 400}},
    asks("the time", call("mcp_time_get_current_time", timezone="UTC")),
    answers("the time", "I have looked at the clock."),
    asks("what is there", call("mcp_files_list_allowed_directories")),
    answers("what is there", "One directory."),
    {"match": {}, "response": {"content": "As you say."}},
)

TURNS = {
    "hello": "As you say.",
    "the time, please": "I have looked at the clock.",
    "tell me what is there": "One directory.",
}

TURNS_EACH = 10


def run(
    times: int, seed: int, say: Callable[[str], None], *, versions: tuple[str, ...] = (), failing: int = 100
) -> dict[str, Any]:
    """``versions``: "" is the one that the tests use; else both. ``failing``: messages of a round that are refused."""
    result: dict[str, Any] = {}
    for version in versions or ("", "0.13.0"):
        python = python_of(version) if version else PYTHON
        reason = why_not(python)
        assert not reason, reason
        result[version or "0.19.0"] = _version(python, times, random.Random(seed), say, failing)
    return result


def _version(
    python: Path, times: int, chance: random.Random, say: Callable[[str], None], failing: int
) -> dict[str, Any]:
    waits: list[float] = []
    failed = 0
    with conversation(*FIXTURES, python=python) as (scene, endpoint):
        for number in range(times):
            chat = f"chat{number}"
            # Both servers are needed, whatever the seed chooses for the rest.
            texts = [*TURNS, *chance.choices(list(TURNS), k=TURNS_EACH - len(TURNS))]
            for text in texts:
                began = time.monotonic()
                answer = scene.fake.talk(text, chat=chat)
                waits.append(time.monotonic() - began)
                assert answer == TURNS[text], f"{answer!r} to {text!r}"
            users = [one for one in steps(endpoint)[-1]["messages"] if one["role"] == "user"]
            assert len(users) == TURNS_EACH, f"the model knows {len(users)} messages of {TURNS_EACH}"
            before = _built(scene, chat)
            assert len(before[1]) == 2, f"servers: {before}"
            _use(scene, "gone")
            for turn in range(failing):
                text = scene.fake.talk(f"message {turn}", chat=chat)
                assert "no model gone" in text, text
                failed += 1
            _use(scene, "gpt-4o")
            assert scene.fake.talk("hello", chat=chat) == "As you say."
            assert _built(scene, chat) == before, f"built again: {_built(scene, chat)} instead of {before}"
            say(f"{python.parents[1].name}: round {number + 1}, {len(waits)} turns, {failed} failures")
    return {"turns": len(waits), "failed": failed, "waits": summary(waits)}


def _use(scene: Scene, model: str) -> None:
    scene.configure_section("model", {"default": model})
    done = scene.daemon.ctl("reload")
    assert done.returncode == 0, done.stderr


def _built(scene: Scene, chat: str) -> tuple[int, tuple[int, ...]]:
    worker = scene.worker(chat)
    return worker["pid"], tuple(server["pid"] for server in worker["mcp"] if server["pid"])
