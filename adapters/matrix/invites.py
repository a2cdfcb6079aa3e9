"""Invitations: each is accepted, and the access gate decides whom to answer. Kept on disk until it is done, because a
sync tells of an invitation only once.

Each is tried in its own time: a room may be of a server that is away for ever, which must keep nobody else waiting.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mautrix.client import ClientAPI

from hermesd.adapters.contract import Cursor
from hermesd.adapters.errors import AdapterError, NotAccepted, Unauthorized

from .calls import calling, is_passing
from .inbound import MEMBER, content_of
from .rooms import Rooms

log = logging.getLogger("hermesd.matrix")

CURSOR = "invites"
WAITING = 500
"""Invitations that may wait; a flood of them drops the oldest."""

AT_ONCE = 8
"""Rooms that are being joined: a homeserver takes its time to find out that another one is away."""

AGAIN_AT_ONCE = 4
"""Of them, those that have failed before: one that has not is never behind them."""

CALL_SECONDS = 60.0
"""For one try to join."""

SHORTEST, LONGEST = 2.0, 300.0
"""Seconds between two tries of one invitation."""


@dataclass(slots=True)
class Invitation:
    """``inviter``: who invited for a direct chat, or "". ``settled``: the token of the sync that told of it is on disk,
    so no sync without a token shows its room as one that we were in before. ``due`` is a time of the event loop's.
    """

    inviter: str
    settled: bool = False
    failures: int = 0
    due: float = 0.0


class Invites:
    """Joins the rooms that we are asked into. ``reads_on``: the syncs go on from where an earlier life has stopped."""

    def __init__(
        self, client: ClientAPI, rooms: Rooms, keep: Callable[[Cursor], Awaitable[None]], kept: str, *, reads_on: bool
    ):
        self._client = client
        self._rooms = rooms
        self._keep = keep
        found: dict[str, str] = json.loads(kept) if kept else {}
        self._waiting = {room: Invitation(inviter, reads_on) for room, inviter in found.items()}
        self._joining: dict[asyncio.Task[None], str] = {}
        self._more = asyncio.Event()

    async def take(self, data: Mapping[str, Any], user_id: str) -> None:
        """Note the invitations of a sync; on disk when it returns."""
        sections = data.get("rooms", {})
        found = {room: _inviter(section, user_id) for room, section in sections.get("invite", {}).items()}
        taken_back = [room for room in sections.get("leave", {}) if room in self._waiting]
        for room in taken_back:
            del self._waiting[room]
        for room, inviter in found.items():
            self._waiting.pop(room, None)  # it is a new one, and not the oldest any more
            self._waiting[room] = Invitation(inviter)
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
        if found or taken_back:
            await self._note()

    def settle(self) -> None:
        """What `take` has noted is joined from now on: the token of its sync is on disk."""
        for invitation in self._waiting.values():
            if not invitation.settled:
                invitation.settled = True
                self._more.set()

    async def _note(self) -> None:
        await self._keep(Cursor(CURSOR, json.dumps({room: one.inviter for room, one in self._waiting.items()})))

    async def run(self) -> None:
        """Until it is cancelled. Raises `Unauthorized`."""
        more: asyncio.Task[bool] | None = None
        try:
            while True:
                self._more.clear()
                wait = self._begin()
                more = more or asyncio.create_task(self._more.wait(), name="more invitations")
                done, _ = await asyncio.wait({more, *self._joining}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if more in done:
                    more = None
                for task in [task for task in self._joining if task.done()]:
                    del self._joining[task]
                    task.result()
        finally:
            for task in (*self._joining, *([more] if more is not None else ())):
                task.cancel()

    def _begin(self) -> float | None:
        """Start what is due, those first that have failed least. Returns in how many seconds the next one is."""
        now = asyncio.get_running_loop().time()
        under_way = set(self._joining.values())
        again = sum(1 for room in under_way if room in self._waiting and self._waiting[room].failures)
        ready = ((room, one) for room, one in self._waiting.items() if one.settled and room not in under_way)
        idle = sorted((one.failures, room) for room, one in ready)
        for failures, room in idle:
            if len(self._joining) >= AT_ONCE or (failures and again >= AGAIN_AT_ONCE):
                return None  # one that ends makes room
            if self._waiting[room].due <= now:
                self._joining[asyncio.create_task(self._join(room), name=f"join {room}")] = room
                again += failures > 0
                under_way.add(room)
        return min((max(0.0, self._waiting[room].due - now) for _, room in idle if room not in under_way), default=None)

    async def _join(self, room: str) -> None:
        """One try."""
        invitation = self._waiting[room]
        try:
            with calling(f"join room {room}"):
                async with asyncio.timeout(CALL_SECONDS):
                    await self._client.join_room_by_id(room)  # type: ignore[arg-type]
                    if invitation.inviter:
                        await self._rooms.mark_direct(room, invitation.inviter)
            log.info("joined room %s", room)
        except Unauthorized:
            raise
        except AdapterError as error:
            if is_passing(error):
                log.debug("%s", error)
                pause = min(SHORTEST * 2.0 ** min(invitation.failures, 16), LONGEST)
                invitation.failures += 1
                invitation.due = asyncio.get_running_loop().time() + max(pause, getattr(error, "after", 0.0))
                return
            log.warning("%s", error)
        if self._waiting.get(room) is invitation:
            del self._waiting[room]
            try:
                await self._note()
            except NotAccepted as error:
                log.debug("a room that was joined is joined once more in the next life: %s", error)


def _inviter(section: Mapping[str, Any], user_id: str) -> str:
    """Who wants to talk to us alone; "" for an invitation to a room."""
    for event in section.get("invite_state", {}).get("events", ()):
        if event.get("type") == MEMBER and event.get("state_key") == user_id:
            return str(event.get("sender") or "") if content_of(event).get("is_direct") is True else ""
    return ""
