"""What the fake platform shows, and when, read from its record: to ask for it would cost the hermesd measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, Self

LOOK_EVERY = 0.001
PATIENCE = 60.0


class Record:
    """The fake platform's file of what was shown, from now on; opened by `watched`."""

    def __init__(self, path: Path):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._file.seek(0, os.SEEK_END)
        self._rest = b""
        self._expected: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def expect(self, message: str) -> asyncio.Future[dict[str, Any]]:
        """Done with the final answer to a message when it was shown: among others ``text`` and the time ``at``."""
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
            expected.set_result(shown)


@contextlib.asynccontextmanager
async def watched(home: Path) -> AsyncIterator[Record]:
    """The record of the platform of `harness.scene.Scene` with this home."""
    record = Record(home / "shown.jsonl")
    watching = asyncio.create_task(record.watch(), name="record")
    try:
        yield record
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        record.close()


class Answered(NamedTuple):
    accepted_at: float
    seconds: float  # from there until it was shown
    text: str


class Talk:
    """One person's connection to the fake platform, in one chat."""

    def __init__(self, record: Record, chat: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._record = record
        self._chat = chat
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, home: Path, chat: str, record: Record) -> Self:
        return cls(record, chat, *await asyncio.open_unix_connection(str(home / "fake")))

    async def say(self, text: str, message: str) -> Answered:
        """``message`` is its id, never used before."""
        answered = self._record.expect(message)
        request = {"op": "say", "text": text, "chat": self._chat, "message_id": message, "trusted": True}
        self._writer.write(json.dumps(request).encode() + b"\n")
        if not json.loads(await self._reader.readline()).get("accepted"):
            raise RuntimeError(f"message {message} was not accepted")
        accepted_at = time.time()
        shown = await asyncio.wait_for(answered, PATIENCE)
        # An answer can be shown before the word of its acceptance has been read here; who divides by it needs a time.
        return Answered(accepted_at, max(1e-6, shown["at"] - accepted_at), shown["text"])

    async def end(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
