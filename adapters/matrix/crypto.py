"""Encrypted rooms, by mautrix and libolm: the keys in a database of ours, the messages that wait for theirs.

Off unless it is asked for. Only one process may use a device's keys, which the lock of hermesd's home ensures.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mautrix.api import Method
from mautrix.api import Path as ApiPath
from mautrix.client import InternalEventType
from mautrix.errors import DecryptionError, MNotFound
from mautrix.types import EncryptedEvent, EventType, SerializerError, TrustState

from hermesd.adapters.contract import Cursor
from hermesd.adapters.errors import AdapterError, DeliveryError, Gone, Rejected, Unavailable

from .calls import calling
from .inbound import Event
from .login import Account
from .syncing import Batch, Stream

if TYPE_CHECKING:
    from mautrix.crypto import OlmMachine
    from mautrix.util.async_db import Database

log = logging.getLogger("hermesd.matrix")

PIP = "pip install 'hermesd[encryption]' (which needs cmake and a C++ compiler)"
WARNING = (
    "Matrix encryption relies on libolm, which its makers do not maintain any more: it has known weaknesses in how it "
    "keeps secrets from those who can time it (CVE-2024-45191, CVE-2024-45192, CVE-2024-45193)"
)
"""For ``hermesctl doctor``, as long as encryption is on."""

CURSOR = "undecrypted"
PATIENCE = 300.0
"""Seconds that a message waits for its key."""

Keep = Callable[[Cursor], Awaitable[None]]

WAITING = 100
"""Messages that wait; a flood of them gives up the oldest."""


@dataclass(frozen=True, slots=True)
class Waiting:
    room: str
    event_id: str
    until: float  # Unix seconds: it outlives this process


class Crypto:
    """The keys of one device. Made and opened before the first sync."""

    def __init__(self, client: Stream, machine: OlmMachine, database: Database, keep: Keep):
        self._client = client
        self._machine = machine
        self._database = database
        self._keep = keep
        self._waiting: dict[str, tuple[Waiting, Event | None]] = {}  # None: as kept by the life before, not fetched yet
        self._began = time.time()
        self.given_up = 0

    @staticmethod
    async def open(client: Stream, account: Account, directory: Path | None, keep: Keep) -> Crypto:
        """Raises `Unavailable` where the libraries are missing, `AdapterError` where the keys are not this device's."""
        try:
            from mautrix.crypto import OlmMachine, PgCryptoStateStore, PgCryptoStore
            from mautrix.util.async_db import Database
        except ImportError as error:
            raise Unavailable(
                f"Matrix encryption is unavailable: {error}; install what it needs with: {PIP}"
            ) from error
        if PgCryptoStore is None:
            raise Unavailable(f"Matrix encryption is unavailable: install what it needs with: {PIP}")
        if directory is None or not account.device_id:
            raise AdapterError("cannot encrypt: there is no directory for the keys, or the token has no device")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "crypto.db"
        path.touch(mode=0o600)
        database = Database.create(f"sqlite:{path}", upgrade_table=PgCryptoStore.upgrade_table)
        await database.start()
        states = PgCryptoStateStore(database)
        await states.upgrade_table.upgrade(database)
        # The pickle key guards a file that is ours alone; who can read it can read a key beside it as well.
        store = PgCryptoStore(account.user_id, "hermesd", database)
        await store.open()
        client.state_store = states
        machine = OlmMachine(client, store, states)
        made = Crypto(client, machine, database, keep)
        try:
            await made._begin(account, store)
        except BaseException:
            await made.close()
            raise
        return made

    async def _begin(self, account: Account, store: Any) -> None:
        kept = await store.get_device_id()
        if kept and kept != account.device_id:
            raise AdapterError(
                f"cannot encrypt: the keys on disk are of device {kept}, and the login is of {account.device_id}",
                fix="log in with that device (MATRIX_DEVICE_ID), or remove crypto.db: old messages stay unreadable",
            )
        if not kept:
            await store.put_device_id(account.device_id)
        machine = self._machine
        # People and bots rarely verify each other: an unverified device is one that everybody may talk to.
        machine.share_keys_min_trust = TrustState.UNVERIFIED
        machine.send_keys_min_trust = TrustState.UNVERIFIED
        await machine.load()
        assert machine.account is not None
        self._client.crypto = machine
        # Waited for: the keys of a batch must be there before its messages, and before its token is kept.
        for event_type, handler in (
            (EventType.TO_DEVICE_ENCRYPTED, machine.handle_to_device_event),
            (InternalEventType.DEVICE_LISTS, machine.handle_device_lists),
            (EventType.ROOM_MEMBER, machine.handle_member_event),
            (EventType.ALL, self._client._update_state),
        ):
            self._client.remove_event_handler(event_type, handler)
            self._client.add_event_handler(event_type, handler, wait_sync=True)
        # Our own handler decrypts, in order.
        for dispatcher in list(self._client.dispatchers):
            self._client.remove_dispatcher(dispatcher)
        await self._check_identity(account)
        if not machine.account.shared:
            await machine.share_keys()

    async def _check_identity(self, account: Account) -> None:
        """The server must not know other keys for this device: nobody could write to us."""
        answer = await self._client.query_keys([account.user_id])  # type: ignore[list-item]
        known = answer.device_keys.get(account.user_id, {}).get(account.device_id)  # type: ignore[call-overload]
        keys = known.keys if known is not None else {}
        theirs = next((key for name, key in keys.items() if str(name).startswith("curve25519:")), None)
        ours = self._machine.account.identity_key if self._machine.account is not None else None
        if theirs is not None and theirs != ours:
            raise AdapterError(
                f"cannot encrypt: the server has other keys for device {account.device_id} than crypto.db",
                fix="log in as a new device: remove login.json beside crypto.db, or set a new MATRIX_ACCESS_TOKEN",
            )

    def describe(self) -> dict[str, Any]:
        return {"undecrypted": self.waiting, "given_up": self.given_up, "warnings": [WARNING]}

    async def close(self) -> None:
        await self._database.stop()

    async def take_keys(self, data: Batch) -> None:
        """What a sync says besides messages: keys, devices, who is in which room."""
        rooms = data.get("rooms", {}).get("join", {})
        states = {
            room: {
                "state": section.get("state", {}),
                "timeline": {
                    "events": [one for one in section.get("timeline", {}).get("events", ()) if "state_key" in one]
                },
            }
            for room, section in rooms.items()
        }
        await self._client.dispatch({**data, "rooms": {"join": states}})

    async def is_encrypted(self, room: str) -> bool:
        """Raises mautrix' errors."""
        known = await self._client.state_store.is_encrypted(room)  # type: ignore[union-attr,arg-type]
        if known is not None:
            return bool(known)
        try:
            await self._client.get_state_event(room, EventType.ROOM_ENCRYPTION)  # type: ignore[arg-type]
        except MNotFound:
            return False
        return True

    async def decrypted(self, event: Event, now: float) -> Event | None:
        """The event inside; None while its key is missing, for which it waits."""
        found = await self._decrypt(event)
        if found is None:
            await self._wait(event, now)
        return found

    async def peek(self, event: Event) -> Event | None:
        """The event inside, None if it cannot be read now; it does not wait."""
        return await self._decrypt(event)

    async def _decrypt(self, event: Event) -> Event | None:
        try:
            inner = await self._machine.decrypt_megolm_event(EncryptedEvent.deserialize(cast(Any, dict(event))))
        except (DecryptionError, SerializerError) as error:
            log.debug("event %s cannot be decrypted: %s", event.get("event_id"), error)
            return None
        return {**inner.serialize(), "room_id": event["room_id"], "type": str(inner.type)}

    async def _wait(self, event: Event, now: float) -> None:
        event_id = str(event.get("event_id"))
        if event_id in self._waiting:
            return
        self._waiting[event_id] = (Waiting(str(event["room_id"]), event_id, now + PATIENCE), event)
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.given_up += 1
        await self._note()

    async def _note(self) -> None:
        rows = [[one.room, one.event_id, one.until] for one, _ in self._waiting.values()]
        await self._keep(Cursor(CURSOR, json.dumps(rows)))

    def recall(self, kept: str) -> None:
        """What waited when the process before this one ended; `try_again` asks for it."""
        for room, event_id, until in json.loads(kept) if kept else ():
            self._waiting[event_id] = (Waiting(room, event_id, until), None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def try_again(self, now: float) -> tuple[list[Event], list[Waiting]]:
        """What can be read by now, and what is given up. Neither waits any more once `settled` was called."""
        await self._fetch_recalled()
        readable, given_up = [], []
        for waiting, event in list(self._waiting.values()):
            if event is not None and (inner := await self._decrypt(event)) is not None:
                readable.append(inner)
            elif now > (waiting.until if event is not None else max(waiting.until, self._began + PATIENCE)):
                given_up.append(waiting)
        return readable, given_up

    async def _fetch_recalled(self) -> None:
        """A room may be closed to us by now: what waited in it is over, and nothing else."""
        over = []
        for waiting in [waiting for waiting, event in self._waiting.values() if event is None]:
            try:
                with calling(f"read event {waiting.event_id} in {waiting.room}, which waited for its key"):
                    place = ApiPath.v3.rooms[waiting.room].event[waiting.event_id]
                    event = {**await self._client.api.request(Method.GET, place), "room_id": waiting.room}
            except (Gone, Rejected) as error:
                log.warning("%s", error)
                over.append(waiting.event_id)
            except DeliveryError as error:
                log.debug("%s", error)
                self._waiting[waiting.event_id] = self._waiting.pop(waiting.event_id)  # the next time, the others first
                break
            else:
                self._waiting[waiting.event_id] = (waiting, event)
        await self.settled(*over)
        self.given_up += len(over)

    async def settled(self, *event_ids: str) -> None:
        """These are in the journal, or given up."""
        if [self._waiting.pop(event_id) for event_id in event_ids if event_id in self._waiting]:
            await self._note()
