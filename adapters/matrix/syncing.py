"""The stream of events: each batch is in the journal, whole, before its successor's token is kept.

mautrix hands the token of the next batch to its store before the handlers of this one have run
(mautrix/client/syncer.py:533-545), runs them unordered, and goes on when one fails. So the store only holds the token
(`DeferringStore`), and one handler takes the whole batch in its order (`Stream.handle_sync`): it returns when all of it
is kept, however long the journal refuses, and only then the token is kept too. What a death cuts off comes again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mautrix.api import Method, Path
from mautrix.client import Client
from mautrix.client.state_store import SyncStore
from mautrix.types import SyncToken

from hermesd.adapters.contract import Cursor

from .inbound import ENCRYPTED, MEMBER, MESSAGE, REACTION, STICKER, Event, content_of

CURSOR = "sync"
PAGE = 100
TIMELINE = 100
"""Events of a room in one sync; what is more is fetched page by page."""

_WANTED = [MESSAGE, STICKER, ENCRYPTED, MEMBER, REACTION]
_MEMBERS = {"lazy_load_members": True, "include_redundant_members": True}

FILTER: dict[str, Any] = {
    "account_data": {"types": ["m.direct"]},
    "presence": {"types": []},
    "room": {
        "timeline": {"limit": TIMELINE, **_MEMBERS},
        "state": {
            "types": [MEMBER, "m.room.name", "m.room.encryption", "m.room.create", "m.room.power_levels"], **_MEMBERS,
        },
        "ephemeral": {"types": []},
        "account_data": {"types": []},
    },
}  # fmt: skip

Batch = Mapping[str, Any]


class DeferringStore(SyncStore):
    """Keeps a token only when `settle` says that everything before it is in the journal."""

    def __init__(self, keep: Callable[[Cursor], Awaitable[None]], kept: str = ""):
        self._keep = keep
        self.read_on(kept)

    def read_on(self, kept: str) -> None:
        """Called before the first sync: from where an earlier life has stopped, "" for none."""
        self.kept = self._next = kept

    async def get_next_batch(self) -> SyncToken:
        return SyncToken(self.kept)

    async def put_next_batch(self, next_batch: SyncToken) -> None:
        self._next = next_batch

    async def settle(self) -> None:
        if self._next != self.kept:
            await self._keep(Cursor(CURSOR, self._next))
            self.kept = self._next


class Stream(Client):
    """mautrix' client, whose syncs go to one handler.

    ``failed`` is asked what to do about each sync that failed: seconds until the next try, None for no more of them.
    """

    def __init__(
        self,
        *args: Any,
        take: Callable[[Batch], Awaitable[None]],
        failed: Callable[[Exception], float | None],
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self._take = take
        self._failed = failed

    async def sync(self, *args: Any, **kwargs: Any) -> Any:
        """One sync that has succeeded. Does not return once ``failed`` has given up: whoever knows of it stops us."""
        while True:
            try:
                return await super().sync(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - `failed` decides what becomes of each
                if (delay := self._failed(error)) is None:
                    await asyncio.Event().wait()
                else:
                    await asyncio.sleep(delay)

    def handle_sync(self, data: Any) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self._take(data))]

    async def dispatch(self, data: Any) -> None:
        """Run mautrix' own handlers over (part of) a sync: they are those of its encryption."""
        await asyncio.gather(*super().handle_sync(data))


def is_initial(data: Batch) -> bool:
    """Whether this sync began without a token: what it shows is history, and not for us to answer."""
    return bool(data.get("net.maunium.mautrix", {}).get("is_initial"))


async def earlier(client: Client, room: str, since: str, before: str) -> list[Event]:
    """What a sync has left out between its token and its timeline, oldest first. Raises mautrix' errors."""
    found: list[Event] = []
    place = since
    while True:
        answer = await client.api.request(
            Method.GET, Path.v3.rooms[room].messages,
            query_params={
                "dir": "f", "from": place, "to": before, "limit": str(PAGE), "filter": _MESSAGES_FILTER,
            },
        )  # fmt: skip
        found += answer.get("chunk", ())
        place = answer.get("end", "")
        if not place or not answer.get("chunk"):
            return found


_MESSAGES_FILTER = json.dumps({"types": _WANTED})


def since_we_came(events: list[Event], user_id: str) -> list[Event]:
    """Leaves out what was written before we were asked into the room; all of it where we were there before."""
    start = 0
    for place, event in enumerate(events):
        if event.get("type") != MEMBER or event.get("state_key") != user_id:
            continue
        membership = content_of(event).get("membership")
        if membership == "invite" or (membership == "join" and _is_first(event)):
            start = place
    return events[start:]


def _is_first(event: Event) -> bool:
    """Whether somebody comes who was neither here nor asked in before: not a new name of one who is here."""
    unsigned = event.get("unsigned")
    if not isinstance(unsigned, Mapping):
        return True
    before = unsigned.get("prev_content")
    if isinstance(before, Mapping):
        return before.get("membership") not in ("join", "invite")
    return "replaces_state" not in unsigned
