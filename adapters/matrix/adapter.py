"""The Matrix way in: one account at one homeserver, through mautrix."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import aiohttp
from mautrix.api import HTTPAPI
from mautrix.client import InternalEventType
from mautrix.types import Filter

from hermesd.adapters.contract import (
    AdapterSettings,
    Attachment,
    Bursts,
    Capabilities,
    Cursor,
    Identity,
    Outbound,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected, Retry, StartLater, Unauthorized
from hermesd.adapters.media import kinds
from hermesd.adapters.standing import Standing
from hermesd.adapters.text import utf8_bytes

from . import media, options, outbound
from .calls import calling, judge, translated
from .crypto import Crypto
from .login import Account, log_in
from .outage import Outage
from .reading import NO_ENCRYPTION, Reading
from .rooms import Rooms
from .sending import Sending
from .syncing import CURSOR as SYNC
from .syncing import FILTER, DeferringStore, Stream

log = logging.getLogger("hermesd.matrix")

IS_IT_THERE = "is MATRIX_HOMESERVER the address of a Matrix server, and is it up?"

ACCOUNT = "account"
"""The cursor that says whose the other cursors are."""

FIRST_SYNC_SECONDS = 15.0

# A long poll is silent for 30 s (mautrix/client/syncer.py:491).
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


class MatrixAdapter:
    """Platform ``matrix``. Raises `AdapterError` for settings that it refuses."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._options = options.read(settings)
        self._account: Account | None = None
        self._client: Stream | None = None
        self._receiver: Receiver | None = None
        self._reading: Reading | None = None
        self._sending: Sending | None = None
        self._crypto: Crypto | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._outage = Outage()
        self._first_sync: asyncio.Future[None] | None = None  # while it is waited for
        self._reads_on = False  # from where an earlier life has stopped
        self._max_file = media.DEFAULT_LIMIT
        self._standing = Standing()

    # ---- connecting --------------------------------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        self._standing.become("connecting")
        # It logs what people write, at DEBUG.
        logging.getLogger("mau").setLevel(logging.WARNING)
        self._receiver = receiver
        try:
            with calling("connect to Matrix"):
                await self._connect(receiver)
        except (Retry, Gone, Rejected) as error:
            # Whatever answers there instead of a homeserver may be what stands before one that is away.
            await self._close()
            self._standing.become("backing_off", str(error))
            raise StartLater(str(error), fix=IS_IT_THERE) from error
        except NotAccepted as error:
            await self._close()
            self._standing.become("backing_off", str(error))
            raise StartLater(str(error)) from error
        except BaseException as error:
            await self._close()
            self._standing.become("refused", str(error))
            raise
        if self._reads_on or self._first_sync is not None:
            self._standing.become("online")

    async def _connect(self, receiver: Receiver) -> None:
        store = DeferringStore(self._keep)
        session = aiohttp.ClientSession(
            timeout=TIMEOUT, raise_for_status=judge, headers={"User-Agent": HTTPAPI.default_ua}
        )
        client = Stream(
            base_url=self._options.homeserver, client_session=session, sync_store=store, take=self._take,
            failed=self._sync_failed,
        )  # fmt: skip
        self._client = client
        self._account = await log_in(client, self._options)
        self._standing.alive()
        kept = await self._kept(receiver, self._account.user_id)
        store.read_on(kept.get(SYNC, ""))
        rooms = Rooms(client)
        await rooms.start()
        self._max_file = await media.upload_limit(client)
        if self._options.encryption:
            self._crypto = await Crypto.open(client, self._account, self._options.data_dir, self._keep)
            self._crypto.recall(kept.get("undecrypted", ""))
        self._sending = Sending(client, rooms, self._crypto, self._keep, kept)
        self._reading = Reading(
            self.name, client, rooms, self._options, receiver, store=store, crypto=self._crypto,
            sender=self._sending, kept=kept, keep=self._keep, troubled=self._troubled,
        )  # fmt: skip
        client.add_event_handler(InternalEventType.SYNC_SUCCESSFUL, self._synced, wait_sync=True)
        client.add_event_handler(InternalEventType.SYNC_STOPPED, self._sync_stopped, wait_sync=True)
        self._run(self._reading.invites.run(), "join rooms")
        if self._crypto is not None:
            self._run(self._reading.retry_undecrypted(), "retry undecrypted")
        self._reads_on = bool(store.kept)
        if not self._reads_on:
            self._first_sync = asyncio.get_running_loop().create_future()
        syncing = client.start(Filter.deserialize(cast(Any, FILTER)))
        self._tasks.add(syncing)  # type: ignore[arg-type]
        if self._first_sync is not None:
            await self._wait_first(self._first_sync)

    async def _kept(self, receiver: Receiver, user_id: str) -> dict[str, str]:
        """What the lives before have kept of this account. Another one's place in its stream, at another server even,
        is none of ours.
        """
        kept = dict(await receiver.cursors(self.name))
        owner = kept.get(ACCOUNT, "")
        if owner not in ("", user_id):
            log.warning("the account is %s and no longer %s: it reads what is written from now on", user_id, owner)
            for name in kept:
                if name != ACCOUNT:
                    await receiver.keep_cursor(self.name, Cursor(name, ""))
            kept = {}
        if owner != user_id:
            await receiver.keep_cursor(self.name, Cursor(ACCOUNT, user_id))
        return kept

    async def _wait_first(self, first: asyncio.Future[None]) -> None:
        """What people say from now on is not history: the server draws the line when it is asked. For an account in
        many rooms its answer takes minutes, for which the other platforms do not wait.
        """
        await asyncio.wait({first}, timeout=FIRST_SYNC_SECONDS)
        if first.done():
            first.result()
        else:
            self._first_sync = None

    def _run(self, work: Coroutine[Any, Any, None], what: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("%s: %s failed", self.name, what)
                self._lose(translated(error, what) or AdapterError(f"cannot {what}: {error}"))

        task = asyncio.create_task(guarded(), name=f"{self.name}: {what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _synced(self, _: Any) -> None:
        self._standing.alive()
        if self._outage.over():
            log.info("Matrix answers again")
        if self._first_sync is not None and not self._first_sync.done():
            self._first_sync.set_result(None)
        self._standing.become("online")

    def _sync_failed(self, cause: Exception) -> float | None:
        error = translated(cause, "read from Matrix") or AdapterError(f"cannot read from Matrix: {cause!r}")
        error.__cause__ = cause
        starting = self._first_sync is not None and not self._first_sync.done()
        delay = None if starting else self._outage.failed(error, time.monotonic())
        if delay is None:
            self._lose(error)
        else:
            if self._standing.word != "backing_off":
                log.warning("%s; it is tried again", error)
            self._standing.become("backing_off", f"{error}; the next try is in {delay:.0f} s")
        return delay

    async def _sync_stopped(self, event: dict[str, Any]) -> None:
        if (error := event["error"]) is not None:
            self._lose(translated(error, "read from Matrix") or AdapterError(f"cannot read from Matrix: {error}"))

    def _troubled(self, detail: str) -> None:
        """The core cannot keep what came ("" when it can again): nothing more is read meanwhile."""
        self._standing.become("backing_off" if detail else "online", detail)

    def _lose(self, error: AdapterError) -> None:
        if self._first_sync is not None and not self._first_sync.done():
            self._first_sync.set_exception(error)  # `start` raises it
            return
        if self._receiver is None:
            return
        if isinstance(error, Unauthorized) and not self._options.token:
            # The password gives a new token at the next start.
            error = StartLater(str(error))
        self._standing.become("backing_off", str(error))
        self._receiver.lost(self.name, error)

    async def _take(self, data: Any) -> None:
        assert self._reading is not None
        try:
            await self._reading.take(data)
        except asyncio.CancelledError:
            raise
        except AdapterError as error:
            self._lose(error)
        except Exception as error:
            log.exception("a batch of events could not be taken")
            self._lose(AdapterError(f"cannot read from Matrix: {error}"))
        else:
            return
        # mautrix would go on with the next batch (mautrix/client/syncer.py:546): this one must come again.
        await asyncio.Event().wait()

    async def _keep(self, cursor: Cursor) -> None:
        assert self._receiver is not None
        await self._receiver.keep_cursor(self.name, cursor)

    async def stop(self) -> None:
        self._receiver = None
        await self._close()
        self._standing.become("stopped")

    async def _close(self) -> None:
        client, self._client = self._client, None
        self._sending = None
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._reading = None
        if self._crypto is not None:
            with contextlib.suppress(Exception):
                await self._crypto.close()
            self._crypto = None
        if client is not None:
            await client.api.session.close()

    # ---- what the core asks for --------------------------------------------------------------------------------------

    def _connected(self) -> Sending:
        if self._sending is None or self._client is None:
            raise Retry("cannot send: Matrix is not connected", after=2.0)
        return self._sending

    async def send(self, target: Target, message: Outbound) -> Sent:
        return await self._connected().send(target, message)

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        return await self._connected().edit(target, message_id, message)

    async def delete(self, target: Target, message_id: str) -> None:
        await self._connected().delete(target, message_id)

    async def typing(self, target: Target) -> None:
        await self._connected().typing(target)

    async def react(self, target: Target, sign: str) -> None:
        await self._connected().react(target, sign)

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        await self._connected().settle(target, message_id, text)

    async def fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        self._connected()
        assert self._client is not None
        return await media.fetch(self._client, file, directory, limit)

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(
            max_length=outbound.MAX_LENGTH,
            unit=utf8_bytes,
            markdown=True,
            max_caption=outbound.MAX_LENGTH,
            bare=frozenset({kinds.STICKER}),
            max_file_bytes=self._max_file,
            exact_resends=True,
            progress_rate=self._sending.pace.rate(self._sending.now()) if self._sending is not None else None,
            bursts=Bursts(text=self._options.text_batch_delay) if self._options.text_batch_delay else None,
        )

    def identity(self) -> Identity | None:
        account = f"{self._options.homeserver} {self._options.user_id}"
        return Identity("matrix-access-token", self._options.token or account)

    def _unread(self) -> dict[str, Any]:
        rooms = sorted(self._reading.encrypted_rooms) if self._reading is not None else []
        return {"warnings": [f"room {room} is encrypted, and {NO_ENCRYPTION}" for room in rooms]} if rooms else {}

    def state(self) -> State:
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        account = self._account
        return {
            "homeserver": self._options.homeserver,
            "account": account.user_id if account is not None else self._options.user_id,
            "device": account.device_id if account is not None else self._options.device_id,
            "login": "token" if self._options.token else "password",
            "encryption": "on" if self._options.encryption else "off",
            **(self._crypto.describe() if self._crypto is not None else self._unread()),
        }
