"""Whole turns of a running hermesd: a person writes on the fake platform, the demo agent answers, the answer is shown.

Each session writes its next message when it has seen the answer.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from harness.figures import quantile

from . import idle_sessions, shown
from .effort import Effort, Say
from .row import Row, Series


def measure(effort: Effort, say: Say) -> list[Row]:
    rates: dict[int, list[float]] = {count: [] for count in effort.sessions}
    medians: dict[int, list[float]] = {count: [] for count in effort.sessions}
    slowest: dict[int, list[float]] = {count: [] for count in effort.sessions}
    with idle_sessions.scene(max(effort.sessions)) as scene:
        for number in range(effort.runs):
            for count in effort.sessions:
                each = max(1, effort.whole_turns // count)
                took, waits = asyncio.run(_talk(scene.daemon.home, count, each, f"r{number}s{count}"))
                rates[count].append(count * each / took)
                medians[count].append(quantile(waits, 0.5) * 1000)
                slowest[count].append(quantile(waits, 0.99) * 1000)
            say(f"run {number + 1} of {effort.runs}")
    rows = []
    for count in effort.sessions:
        title = f"whole turns, {count} session{'s' if count > 1 else ''}"
        rows += [
            Row("turns", title, "turns/s", Series("hermesd, demo agent", rates[count]), lower_is_better=False),
            Row("turns", f"{title}: accepted to shown, median", "ms", Series("hermesd, demo agent", medians[count])),
            Row("turns", f"{title}: accepted to shown, p99", "ms", Series("hermesd, demo agent", slowest[count])),
        ]
    return rows


async def _talk(home: Path, count: int, each: int, mark: str) -> tuple[float, list[float]]:
    """Seconds in all, and from each acceptance to its answer."""
    async with shown.watched(home) as record:
        began = time.perf_counter()
        talks = [_session(home, f"chat{number}", each, record, f"{mark}n{number}") for number in range(count)]
        waits = await asyncio.gather(*talks)
        return time.perf_counter() - began, [wait for one in waits for wait in one]


async def _session(home: Path, chat: str, each: int, record: shown.Record, mark: str) -> list[float]:
    talk = await shown.Talk.begin(home, chat, record)
    try:
        return [(await talk.say("hello", f"{mark}m{step}")).seconds for step in range(each)]
    finally:
        await talk.end()
