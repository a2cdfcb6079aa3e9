"""Invitations: each is accepted, and the access gate decides whom to answer. Kept on disk until it is done, because a
sync tells of an invitation only once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mautrix.client import ClientAPI

from hermesd.adapters.contract import Cursor
from hermesd.adapters.errors import AdapterError, Unauthorized

from .calls import calling, is_passing
from .inbound import MEMBER, content_of
from .rooms import Rooms

log = logging.getLogger("hermesd.matrix")

CURSOR = "invites"
WAITING = 500
"""Invitations that may wait; a flood of them drops the oldest."""

LONGEST = 300.0


class Invites:
    """Joins rooms one after the other: servers allow few joins in a time."""

    def __init__(self, client: ClientAPI, rooms: Rooms, keep: Callable[[Cursor], Awaitable[None]], kept: str):
        self._client = client
        self._rooms = rooms
        self._keep = keep
        self._waiting: dict[str, str] = json.loads(kept) if kept else {}  # room -> who invited for a direct chat, or ""
        self._more = asyncio.Event()
        if self._waiting:
            self._more.set()

    async def take(self, data: Mapping[str, Any], user_id: str) -> None:
        """Note the invitations of a sync; on disk when it returns."""
        sections = data.get("rooms", {})
        found = {room: _inviter(section, user_id) for room, section in sections.get("invite", {}).items()}
        taken_back = [room for room in sections.get("leave", {}) if room in self._waiting]
        for room in taken_back:
            del self._waiting[room]
        self._waiting.update(found)
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
        if found or taken_back:
            await self._keep(Cursor(CURSOR, json.dumps(self._waiting)))
        if self._waiting:
            self._more.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                room, inviter = next(iter(self._waiting.items()))
                await self._join(room, inviter)
                self._waiting.pop(room, None)
                await self._keep(Cursor(CURSOR, json.dumps(self._waiting)))

    async def _join(self, room: str, inviter: str) -> None:
        pause = 2.0
        while room in self._waiting:
            try:
                with calling(f"join room {room}"):
                    await self._client.join_room_by_id(room)  # type: ignore[arg-type]
                    if inviter:
                        await self._rooms.mark_direct(room, inviter)
                log.info("joined room %s", room)
                return
            except Unauthorized:
                raise
            except AdapterError as error:
                if not is_passing(error):
                    log.warning("%s", error)
                    return
                log.debug("%s", error)
                await asyncio.sleep(max(pause, getattr(error, "after", 0.0)))
                pause = min(2 * pause, LONGEST)


def _inviter(section: Mapping[str, Any], user_id: str) -> str:
    """Who wants to talk to us alone; "" for an invitation to a room."""
    for event in section.get("invite_state", {}).get("events", ()):
        if event.get("type") == MEMBER and event.get("state_key") == user_id:
            return str(event.get("sender") or "") if content_of(event).get("is_direct") is True else ""
    return ""
