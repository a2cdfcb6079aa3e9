"""Whole turns of a running hermesd: a person writes on the fake platform, the demo agent answers, the answer is shown.

Each session writes its next message when it has seen the answer. Answers are read from the platform's record, not asked
for: every question would cost the hermesd that is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from harness.figures import quantile

from . import idle_sessions
from .effort import Effort, Say
from .row import Row, Series

LOOK_EVERY = 0.001
PATIENCE = 60.0


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
    record = _Record(home / "shown.jsonl")
    watching = asyncio.create_task(record.watch(), name="record")
    began = time.perf_counter()
    try:
        talks = [_session(home / "fake", f"chat{number}", each, record, f"{mark}n{number}") for number in range(count)]
        waits = await asyncio.gather(*talks)
        return time.perf_counter() - began, [wait for one in waits for wait in one]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        record.close()


async def _session(socket: Path, chat: str, each: int, record: _Record, mark: str) -> list[float]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    waits = []
    try:
        for step in range(each):
            message = f"{mark}m{step}"
            answered = record.expect(message)
            request = {"op": "say", "text": "hello", "chat": chat, "message_id": message, "trusted": True}
            writer.write(json.dumps(request).encode() + b"\n")
            if not json.loads(await reader.readline()).get("accepted"):
                raise RuntimeError(f"message {message} was not accepted")
            accepted_at = time.time()
            shown_at = await asyncio.wait_for(answered, PATIENCE)
            # An answer can be shown before the word of its acceptance has been read here.
            waits.append(max(0.0, shown_at - accepted_at))
        return waits
    finally:
        writer.close()
        await writer.wait_closed()


class _Record:
    """The fake platform's file of what was shown, from now on."""

    def __init__(self, path: Path):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._file.seek(0, os.SEEK_END)
        self._rest = b""
        self._expected: dict[str, asyncio.Future[float]] = {}

    def expect(self, message: str) -> asyncio.Future[float]:
        """Done with the time at which the final answer was shown."""
        self._expected[message] = asyncio.get_running_loop().create_future()
        return self._expected[message]

    async def watch(self) -> None:
        while True:
            *lines, self._rest = (self._rest + (self._file.read() or b"")).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
            await asyncio.sleep(LOOK_EVERY)

    def close(self) -> None:
        self._file.close()

    def _take(self, entry: dict[str, Any]) -> None:
        shown = entry.get("out", {})
        if shown.get("final") and (expected := self._expected.pop(shown["reply_to"], None)) is not None:
            expected.set_result(shown["at"])
