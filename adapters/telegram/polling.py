"""Asks Telegram for updates, and acknowledges them by asking for later ones only after they are on disk.

python-telegram-bot's `Updater` is not used: when it stops it acknowledges once more whatever it has fetched
(telegram/ext/_updater.py:378 `_get_updates_cleanup`), and one update that it cannot parse keeps a whole batch from
being handled, for ever (telegram/_bot.py `get_updates`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from telegram import Bot
from telegram.error import TelegramError

from hermesd.adapters.errors import AdapterError, NotAccepted
from hermesd.adapters.telegram import calls
from hermesd.adapters.telegram.inbound import ALLOWED_UPDATES

log = logging.getLogger("hermesd.adapters.telegram")

POLL_SECONDS = 20
"""How long Telegram holds a request when there is nothing to tell."""

READ_SLACK = 10.0
"""How much later than that the connection is taken for dead."""

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)
GIVE_UP_SECONDS = 60.0
"""Of failures without a break; the core then makes a new connection, in its own time."""

CONFLICT_DELAYS = (1.0, 5.0, 10.0)
CONFLICT_WINDOW = 60.0
HAND_OVER_SECONDS = 10.0
"""Two conflicts so far apart, within the window, are a rival, whatever was received between them: one that backs off
leaves us our turns. What is nearer is what a hand-over looks like: an earlier poll that Telegram still holds.
"""

REFUSED_DELAYS = (0.2, 1.0, 5.0, 15.0)
"""The core keeps nothing now: its disk is full, or it is stopping."""

BATCH = 100

HOLLOW_SECONDS = 0.5
"""The pause after an answer that came at once with nothing new, as of a server that does not hold the request."""

Update = Mapping[str, Any]
Take = Callable[[Update], Awaitable[None]]
"""Returns when the update may be acknowledged; raises `NotAccepted` when it may not."""


class UpdatesBot(Bot):
    """`telegram.Bot` with updates as Telegram sends them."""

    async def raw_updates(self, offset: int, seconds: int) -> list[Update]:
        """Raises `telegram.error.TelegramError`."""
        arguments = {
            "offset": offset,
            "timeout": seconds,
            "limit": BATCH,
            "allowed_updates": list(ALLOWED_UPDATES),
        }
        found = await self._post("getUpdates", arguments, read_timeout=seconds + READ_SLACK)
        return found if isinstance(found, list) else []


class Poller:
    """Runs until it is cancelled, or until ``lost`` has been called. ``now``: the event loop's clock, if not given."""

    def __init__(
        self,
        bot: UpdatesBot,
        take: Take,
        *,
        alive: Callable[[], None],
        troubled: Callable[[str], None],
        lost: Callable[[AdapterError], None],
        now: Callable[[], float] | None = None,
        seconds: int = POLL_SECONDS,
    ):
        self._bot = bot
        self._take = take
        self._alive = alive
        self._troubled = troubled
        self._lost = lost
        self._now = now or asyncio.get_running_loop().time
        self._seconds = seconds
        self._offset = 0
        self._failing_since: float | None = None
        self._failures = 0
        self._conflicts: list[float] = []  # when, within the window

    async def run(self) -> None:
        refusals = 0
        while True:
            began, asked = self._now(), self._offset
            try:
                updates = await self._bot.raw_updates(self._offset, self._seconds)
            except TelegramError as error:
                if (delay := self._failed(error)) is None:
                    return
                await asyncio.sleep(delay)
                continue
            self._failing_since, self._failures = None, 0
            self._alive()
            try:
                await self._take_all(updates)
                refusals = 0
                if self._offset == asked and self._now() - began < HOLLOW_SECONDS:
                    await asyncio.sleep(HOLLOW_SECONDS)
            except NotAccepted as error:
                delay = _at(REFUSED_DELAYS, refusals)
                refusals += 1
                log.warning("updates of Telegram wait there, and are asked for again in %.1f s: %s", delay, error)
                await asyncio.sleep(delay)

    async def _take_all(self, updates: list[Update]) -> None:
        """Each chat's in their order, chats beside each other: their commits then share the journal's transactions."""
        chats: dict[object, list[Update]] = {}
        for update in updates:
            chats.setdefault(chat_of(update), []).append(update)
        taken: set[int] = set()
        refused: list[NotAccepted] = []

        async def take_chat(waiting: list[Update]) -> None:
            try:
                for update in waiting:
                    await self._take(update)
                    taken.add(update["update_id"])
            except NotAccepted as error:
                refused.append(error)

        await asyncio.gather(*(take_chat(waiting) for waiting in chats.values()))
        for update in updates:  # up to the first that was not taken: an offset acknowledges all before it
            if update["update_id"] not in taken:
                break
            self._offset = update["update_id"] + 1
        if refused:
            raise refused[0]

    def _failed(self, error: TelegramError) -> float | None:
        """Seconds until the next try; None when there is to be none."""
        found = calls.failure(error, self._bot.token)
        if found.kind == "flood":
            return max(found.after, 1.0)
        if found.kind == "conflict":
            now = self._now()
            self._conflicts = [at for at in self._conflicts if at > now - CONFLICT_WINDOW] + [now]
            if now - self._conflicts[0] >= HAND_OVER_SECONDS:
                self._lost(calls.adapter_error(found, "receive from Telegram"))
                return None
            log.warning("Telegram: %s", found.text)
            return _at(CONFLICT_DELAYS, len(self._conflicts) - 1)
        if found.kind in ("token", "refused", "forbidden"):
            self._lost(calls.start_error(found))
            return None
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
            log.warning("Telegram does not answer: %s", found.text)
        if now - self._failing_since >= GIVE_UP_SECONDS:
            self._lost(calls.start_error(found))
            return None
        self._troubled(found.text)
        delay = _at(RETRY_DELAYS, self._failures)
        self._failures += 1
        return delay


def chat_of(update: Update) -> object:
    """What keeps its order."""
    for what in update.values():
        if isinstance(what, dict):
            message = what.get("message") or what
            chat = message.get("chat") if isinstance(message, dict) else None
            return chat.get("id") if isinstance(chat, dict) else None
    return None


def _at(delays: tuple[float, ...], number: int) -> float:
    return delays[min(number, len(delays) - 1)]
