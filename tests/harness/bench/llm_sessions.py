"""What each of many sessions costs whose agent is ``llm``: memory and CPU, after a turn each and with nothing to do."""

from __future__ import annotations

import statistics
import time

from harness.aimock import aimock, has_aimock
from harness.scene import Scene

from . import idle_sessions
from .cpu import run_seconds
from .effort import Effort, Say
from .memory import rolled
from .row import Row, Series

FIXTURES = [{"match": {"userMessage": "hello"}, "response": {"content": "Hello to you."}}]
IDLE_SECONDS = 20.0


def measure(effort: Effort, say: Say) -> list[Row]:
    if not has_aimock():
        raise RuntimeError("there is no aimock in tests/node: npm ci --prefix tests/node")
    private: dict[str, list[float]] = {"llm": [], "demo": []}
    share: dict[str, list[float]] = {"llm": [], "demo": []}
    turn: dict[str, list[float]] = {"llm": [], "demo": []}
    idle: dict[str, list[float]] = {"llm": [], "demo": []}
    count = effort.idle_sessions
    for number in range(effort.runs):
        for agent in ("llm", "demo"):
            with aimock(*FIXTURES) as endpoint:
                model = {"default": "good", "base_url": endpoint.url, "api_key": "sk-none"}
                with idle_sessions.scene(count, agent=agent, model=model) as scene:
                    _of(scene, count, private[agent], share[agent], turn[agent], idle[agent], effort)
            say(
                f"run {number + 1} of {effort.runs}, {agent}: {private[agent][-1]:.1f} MiB private, "
                f"{share[agent][-1]:.1f} with its share, {idle[agent][-1]:.2f} ms CPU a second for all {count}"
            )
    of_each = f"one of {count} sessions with llm"
    return [
        Row("llm-sessions", f"memory of {of_each}, private", "MiB", Series("llm", private["llm"]),
            (Series("demo", private["demo"]),)),
        Row("llm-sessions", f"memory of {of_each}, with its share of the common pages", "MiB",
            Series("llm", share["llm"]), (Series("demo", share["demo"]),)),
        Row("llm-sessions", "CPU of a turn, worker and hermesd", "ms", Series("llm", turn["llm"]),
            (Series("demo", turn["demo"]),)),
        Row("llm-sessions", f"CPU a second of {count} idle workers", "ms", Series("llm", idle["llm"]),
            (Series("demo", idle["demo"]),)),
    ]  # fmt: skip


def _of(
    scene: Scene, count: int, private: list[float], share: list[float], turn: list[float], idle: list[float],
    effort: Effort,
) -> None:  # fmt: skip
    pids = idle_sessions.pids(scene, count)
    found = [rolled(pid) for pid in pids]
    private.append(statistics.median(one.private for one in found))
    share.append(statistics.median(one.proportional for one in found))
    before, began = run_seconds(pids), time.monotonic()
    time.sleep(IDLE_SECONDS if effort.runs > 1 else 1.0)
    idle.append(max((run_seconds(pids) - before) / (time.monotonic() - began) * 1000, 1e-6))
    both = [scene.daemon.pid, scene.worker("chat0")["pid"]]
    before = run_seconds(both)
    for _ in range(effort.whole_turns // 10 or 1):
        scene.fake.talk("hello", chat="chat0")
    turn.append((run_seconds(both) - before) / (effort.whole_turns // 10 or 1) * 1000)
