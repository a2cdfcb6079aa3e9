"""What we know of rooms: whether they are direct chats, their names, and the names of who writes in them.

Learned from what the server sends along, asked for where a restart has forgotten it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

from mautrix.api import Method, Path
from mautrix.client import ClientAPI
from mautrix.errors import MForbidden, MNotFound

from .addressing import Me, Room
from .inbound import MEMBER, Event, content_of

log = logging.getLogger("hermesd.matrix")

DIRECT = "m.direct"
PRESENT = ("join", "invite")


class Rooms:
    """The rooms of one account."""

    def __init__(self, client: ClientAPI):
        self._client = client
        self._direct: dict[str, list[str]] = {}  # person -> rooms, as the account data has it
        self._members: dict[str, int] = {}  # room -> how many are in it or invited
        self._names: dict[str, str] = {}
        self._people: dict[tuple[str, str], str] = {}  # (room, user) -> display name
        self._marking = asyncio.Lock()  # the whole list is written each time
        self.me = Me("")

    async def start(self) -> None:
        """Ask for what holds for all rooms. Raises mautrix' errors."""
        with contextlib.suppress(MNotFound):
            self._take_direct(await self._client.get_account_data(DIRECT))
        user_id = str(self._client.mxid)
        name: Any = None
        with contextlib.suppress(MNotFound, MForbidden):
            name = (await self._client.api.request(Method.GET, Path.v3.profile[user_id])).get("displayname")
        self.me = Me(user_id, name if isinstance(name, str) else "")

    def _take_direct(self, content: Any) -> None:
        if isinstance(content, Mapping):
            self._direct = {
                str(user): [str(room) for room in rooms] for user, rooms in content.items() if isinstance(rooms, list)
            }

    def take_account_data(self, data: Mapping[str, Any]) -> None:
        for event in data.get("account_data", {}).get("events", ()):
            if event.get("type") == DIRECT:
                self._take_direct(event.get("content"))

    def take(self, room: str, section: Mapping[str, Any]) -> None:
        """The part of a sync that is about one room."""
        changed = False
        for event in [*section.get("state", {}).get("events", ()), *section.get("timeline", {}).get("events", ())]:
            changed |= self.take_state(room, event)
        summary = section.get("summary", {})
        counts = (summary.get("m.joined_member_count"), summary.get("m.invited_member_count"))
        if isinstance(counts[0], int) and isinstance(counts[1], int):
            self._members[room] = counts[0] + counts[1]
        elif changed:
            self._members.pop(room, None)  # asked for again when it matters

    def take_state(self, room: str, event: Event) -> bool:
        """Whether the event says who is in the room."""
        content = content_of(event)
        if event.get("type") == "m.room.name":
            name = content.get("name")
            self._names[room] = name if isinstance(name, str) else ""
        if event.get("type") != MEMBER:
            return False
        user, name = str(event.get("state_key")), content.get("displayname")
        if content.get("membership") in PRESENT:
            self._people[room, user] = name if isinstance(name, str) else ""
            if user == self.me.user_id and name and isinstance(name, str):
                self.me = Me(self.me.user_id, name)
        return True

    def forget(self, room: str) -> None:
        self._members.pop(room, None)
        self._names.pop(room, None)
        for place in [place for place in self._people if place[0] == room]:
            del self._people[place]

    def person(self, room: str, user: str) -> str:
        """The name that the room shows for somebody, "" where none is known."""
        return self._people.get((room, user), "")

    def is_direct(self, room: str) -> bool | None:
        """None: it is not known without asking."""
        if any(room in rooms for rooms in self._direct.values()):
            return True
        count = self._members.get(room)
        return None if count is None else count <= 2

    async def room(self, room: str) -> Room:
        """All that is known, after asking for what is missing. Raises mautrix' errors."""
        direct = self.is_direct(room)
        if direct is None:
            members = (await self._client.api.request(Method.GET, Path.v3.rooms[room].joined_members))["joined"]
            self._members[room] = len(members)
            for user, shown in members.items():
                name = shown.get("display_name")
                self._people.setdefault((room, user), name if isinstance(name, str) else "")
            direct = len(members) <= 2
        if room not in self._names:
            try:
                state = await self._client.api.request(Method.GET, Path.v3.rooms[room].state["m.room.name"])
                self._names[room] = str(state.get("name") or "")
            except (MNotFound, MForbidden):
                self._names[room] = ""
        return Room(room, direct, self._names[room])

    async def mark_direct(self, room: str, person: str) -> None:
        """Write down, for all clients of the account, that a room is a direct chat. Raises mautrix' errors."""
        async with self._marking:
            if room in self._direct.get(person, ()):
                return
            content = {**self._direct, person: [*self._direct.get(person, ()), room]}
            await self._client.set_account_data(DIRECT, cast(Any, content))
            self._direct = content
