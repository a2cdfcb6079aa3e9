"""Between the access gate and a session's lane: messages that belong together become one, and files are fetched.

Each session's messages go through here one after the other, so that one with a large file is not overtaken by the next.
Whatever is here is on disk as *received*; after a death it is simply let in again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hermesd.adapters.contract import Adapter, Attachment, CanFetch, Capabilities, Inbound, Target, capability
from hermesd.adapters.errors import AdapterError, Rejected, Retry
from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.journal import inbox
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import InboxRow
from hermesd.supervisor.tasks import Tasks

from . import bursts, words
from .stickers import Stickers

log = logging.getLogger("hermesd.gateway")

FETCH_DELAYS = (1.5, 3.0)
"""Seconds between the tries to fetch a file; after the last one the agent is told that it could not be had."""

OFFLINE_SECONDS = 2.0
"""Between two looks whether a platform that is not connected is there again."""

FILE_LIMIT = 50 * 1024 * 1024
"""Bytes of one file of a message, where the platform allows as much."""


@dataclass(slots=True)
class _Waiting:
    """The messages of one session that are on their way."""

    rows: deque[InboxRow] = field(default_factory=deque)
    at: InboxRow | None = None  # the one that is being completed
    work: asyncio.Task[InboxRow] | None = None  # that does so
    more: asyncio.Event = field(default_factory=asyncio.Event)


class Arrivals:
    """``hand_on`` gets each message, whole, in the order of its session. ``adapters``: the live ones."""

    def __init__(
        self,
        *,
        adapters: Mapping[str, Adapter],
        persistence: Persistence,
        stickers: Stickers,
        media: Path,
        tasks: Tasks,
        hand_on: Callable[[InboxRow, SessionKey], None],
    ):
        self._adapters = adapters
        self._persistence = persistence
        self._stickers = stickers
        self._media = media
        self._tasks = tasks
        self._hand_on = hand_on
        self._waiting: dict[SessionKey, _Waiting] = {}

    def __len__(self) -> int:
        return sum(len(waiting.rows) for waiting in self._waiting.values())

    def add(self, row: InboxRow, key: SessionKey) -> None:
        """A message was let in. One that needs nothing and has nothing before it is handed on at once."""
        waiting = self._waiting.get(key)
        if waiting is None:
            if self._capabilities(row.inbound).bursts is None and not _needs_work(row.inbound):
                self._hand_on(row, key)
                return
            waiting = self._waiting[key] = _Waiting()
            self._tasks.job(self._work_off(key, waiting), f"arrivals of {key}")
        waiting.rows.append(row)
        waiting.more.set()

    def forget(self, key: SessionKey) -> list[InboxRow]:
        """Take back what is not handed on yet: the session's user has stopped it or begins anew."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return []
        rows = [waiting.at, *waiting.rows] if waiting.at is not None else list(waiting.rows)
        waiting.at = None
        if waiting.work is not None:
            waiting.work.cancel()
        waiting.rows.clear()
        waiting.more.set()
        return rows

    async def _work_off(self, key: SessionKey, waiting: _Waiting) -> None:
        try:
            while waiting.rows:
                rows = await self._gather(waiting)
                if not rows:
                    continue
                waiting.at = rows[0]
                waiting.work = asyncio.create_task(self._whole(rows), name=f"message {rows[0].id}")
                await asyncio.wait([waiting.work])
                if waiting.at is not None:  # not taken back meanwhile
                    waiting.at = None
                    self._hand_on(waiting.work.result(), key)
        finally:
            if waiting.work is not None:
                waiting.work.cancel()
            del self._waiting[key]

    async def _whole(self, rows: list[InboxRow]) -> InboxRow:
        return await self._complete(await self._merge(rows))

    async def _gather(self, waiting: _Waiting) -> list[InboxRow]:
        """The next message and what comes in time and belongs to it; empty when it was taken back meanwhile."""
        first = waiting.rows[0]
        facts = self._capabilities(first.inbound)
        if facts.bursts is None:
            return [waiting.rows.popleft()]
        began = time.monotonic()
        while waiting.rows and waiting.rows[0] is first:
            count = _together(facts, waiting.rows)
            if count < len(waiting.rows) or count >= bursts.MOST:
                break
            latest = waiting.rows[count - 1].inbound
            waited = time.monotonic() - began
            waiting.more.clear()
            try:
                async with asyncio.timeout(bursts.patience(facts.bursts, facts.unit, latest, waited)):
                    await waiting.more.wait()
            except TimeoutError:
                break
        if not waiting.rows or waiting.rows[0] is not first:
            return []
        return [waiting.rows.popleft() for _ in range(_together(facts, waiting.rows))]

    async def _merge(self, rows: list[InboxRow]) -> InboxRow:
        first = rows[0]
        if len(rows) == 1:
            return first
        whole = bursts.merged([row.inbound for row in rows])
        await self._persistence.keep(inbox.merged, first.id, whole, [row.id for row in rows[1:]], time.time())
        return replace(first, inbound=whole)

    async def _complete(self, row: InboxRow) -> InboxRow:
        """The same message with its files on this machine, and with a word in place of those that cannot be."""
        inbound = row.inbound
        if not _needs_work(inbound):
            return row
        files: list[Attachment] = []
        notes: list[str] = []
        for file in inbound.attachments:
            fetched = file if file.path else await self._fetch(inbound, file, notes)
            if fetched is not None:
                files.append(await self._stickers.described(fetched))
        text = "\n".join(part for part in (inbound.text, *notes) if part)
        whole = replace(inbound, text=text, attachments=tuple(files))
        if whole != inbound:
            await self._persistence.keep(inbox.contents, row.id, whole)
        return replace(row, inbound=whole)

    async def _fetch(self, inbound: Inbound, file: Attachment, notes: list[str]) -> Attachment | None:
        """Tries count only while the platform is there: as long as it is not, an answer could not get there either."""
        name, tries = file.name or file.kind, 0
        while True:
            live = self._adapters.get(inbound.platform)
            delay = OFFLINE_SECONDS
            try:
                if live is None:
                    raise Retry(f"{inbound.platform} is not connected")
                if (adapter := capability(live, CanFetch)) is None:
                    raise Rejected(f"{inbound.platform} does not hand files out")
                return await adapter.fetch(file, self._media, FILE_LIMIT)
            except Retry as error:
                if live is not None and live.state().word == "online":
                    if tries == len(FETCH_DELAYS):
                        notes.append(words.file_not_fetched(name, str(error)))
                        return None
                    delay = FETCH_DELAYS[tries]
                    tries += 1
                await asyncio.sleep(max(delay, min(error.after, 30.0)))
            except AdapterError as error:
                notes.append(words.file_not_fetched(name, str(error)))
                return None
            except Exception as error:  # an adapter's fault must not hold up the session
                log.exception("%s cannot fetch %s", inbound.platform, name)
                notes.append(words.file_not_fetched(name, f"{type(error).__name__}: {error}"))
                return None

    def _capabilities(self, inbound: Inbound) -> Capabilities:
        adapter = self._adapters.get(inbound.platform)
        return adapter.capabilities(_chat(inbound)) if adapter is not None else Capabilities()


def _chat(inbound: Inbound) -> Target:
    return Target(inbound.platform, inbound.chat_id, inbound.thread_id, inbound.message_id)


def _needs_work(inbound: Inbound) -> bool:
    return any(not file.path or file.sticker is not None for file in inbound.attachments)


def _together(facts: Capabilities, rows: deque[InboxRow]) -> int:
    """How many at the head are one message."""
    return 1 if facts.bursts is None else bursts.together(facts.bursts, facts.unit, (row.inbound for row in rows))
