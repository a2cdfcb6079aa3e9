"""Conversations of the real hermes-agent, 0.19.0 and 0.13.0, with two MCP servers and a model that fails meanwhile."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.aimock import AiMock
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

PATIENCE = 300.0
"""Ten workers at once import hermes-agent and start two servers each."""

LOG_SECONDS = 20.0

Built = dict[str, tuple[int, tuple[int, ...]]]


def run(
    times: int,
    seed: int,
    say: Callable[[str], None],
    *,
    versions: tuple[str, ...] = (),
    sessions: int = 10,
    failing: int = 100,
) -> dict[str, Any]:
    """``versions``: "" is the one that the tests use; else both. ``failing``: messages of each session in a round that
    are refused, all sessions at once.
    """
    result: dict[str, Any] = {}
    for version in versions or ("", "0.13.0"):
        python = python_of(version) if version else PYTHON
        reason = why_not(python)
        assert not reason, reason
        result[version or "0.19.0"] = _version(python, times, random.Random(seed), say, sessions, failing)
    return result


def _version(
    python: Path, times: int, chance: random.Random, say: Callable[[str], None], sessions: int, failing: int
) -> dict[str, Any]:
    result: dict[str, Any] = {"sessions": sessions, "turns": 0, "failed": 0}
    waits: list[float] = []
    failures: list[float] = []
    chats = [f"chat{number}" for number in range(sessions)]
    ours = {"workers": {"spare": 0, "max": sessions + 1, "max_turns": sessions, "idle_timeout": "12h"}}
    with (
        conversation(*FIXTURES, python=python, ours=ours) as (scene, endpoint),
        ThreadPoolExecutor(sessions) as people,
    ):
        for number in range(times):
            _converse(scene, endpoint, chats[number % sessions], chance, waits)
            list(people.map(lambda chat: [_good(scene, chat, text, waits) for text in TURNS], chats))
            before, agents = _built(scene), _agents(scene, chats)
            assert {len(servers) for _, servers in before.values()} == {2}, f"servers: {before}"
            _use(scene, "gone")
            result["failed"] += sum(people.map(lambda chat: _fail(scene, chat, failing, failures), chats))
            # One for the configuration that has changed, none for a failure.
            agents += Counter(chats)
            _count_again(result, before, _built(scene), agents, _agents_from(scene, chats, agents))
            _use(scene, "gpt-4o")
            list(people.map(lambda chat: _good(scene, chat, "hello", waits), chats))
            agents += Counter(chats)
            _count_again(result, before, _built(scene), agents, _agents_from(scene, chats, agents))
            say(f"{python.parents[1].name}: round {number + 1}, {len(waits)} turns, {result['failed']} failures")
    return {**result, "turns": len(waits), "waits": summary(waits), "waits_of_failures": summary(failures)}


def _converse(scene: Scene, endpoint: AiMock, chat: str, chance: random.Random, waits: list[float]) -> None:
    """Ten turns that the model still knows at the end. Both servers are needed, whatever the seed chooses besides."""
    endpoint.forget()
    for text in [*TURNS, *chance.choices(list(TURNS), k=TURNS_EACH - len(TURNS))]:
        _good(scene, chat, text, waits)
    users = [one for one in steps(endpoint)[-1]["messages"] if one["role"] == "user"]
    assert len(users) >= TURNS_EACH, f"the model knows {len(users)} messages of {TURNS_EACH}"


def _good(scene: Scene, chat: str, text: str, waits: list[float]) -> None:
    began = time.monotonic()
    answer = scene.fake.talk(text, chat=chat, seconds=PATIENCE)
    waits.append(time.monotonic() - began)
    assert answer == TURNS[text], f"{answer!r} to {text!r}"


def _fail(scene: Scene, chat: str, messages: int, waits: list[float]) -> int:
    for number in range(messages):
        began = time.monotonic()
        text = scene.fake.talk(f"message {number}", chat=chat, seconds=PATIENCE)
        waits.append(time.monotonic() - began)
        assert "no model gone" in text, text
    return messages


def _count_again(result: dict[str, Any], before: Built, now: Built, agents: Counter[str], made: Counter[str]) -> None:
    assert before.keys() == now.keys(), f"sessions without a worker: {before.keys() ^ now.keys()}"
    result["agents_rebuilt"] = (made - agents).total() + sum(before[key][0] != now[key][0] for key in before)
    result["servers_started_again"] = sum(len({*now[key][1]} - {*before[key][1]}) for key in before)
    assert before == now, f"built again: {now} instead of {before}"
    assert made == agents, f"AIAgents made: {made} instead of {agents}"


def _use(scene: Scene, model: str) -> None:
    scene.configure_section("model", {"default": model})
    done = scene.daemon.ctl("reload")
    assert done.returncode == 0, done.stderr


def _built(scene: Scene) -> Built:
    """Of each session its worker and its MCP servers."""
    return {
        row["session"]: (row["pid"], tuple(server["pid"] for server in row["mcp"] if server["pid"]))
        for row in scene.daemon.workers()
    }


def _agents_from(scene: Scene, chats: list[str], agents: Counter[str]) -> Counter[str]:
    """The same, once there are as many as are expected: a worker's log has a way of its own beside the answers."""
    until = time.monotonic() + LOG_SECONDS
    while (made := _agents(scene, chats)) < agents and time.monotonic() < until:
        time.sleep(0.1)
    return made


def _agents(scene: Scene, chats: list[str]) -> Counter[str]:
    """How many AIAgents the sessions have made."""
    made: Counter[str] = Counter()
    for chat in chats:
        done = scene.daemon.ctl("logs", "--session", scene.session(chat), "-n", "1000000", "--json")
        assert done.returncode == 0, done.stderr
        made[chat] = done.stdout.count("made an AIAgent")
    return made
