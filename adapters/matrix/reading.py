"""Batches of events -> messages in the journal, room by room and in their order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from mautrix.api import Method, Path

from hermesd.adapters.contract import Cursor, Inbound, Press, Receiver
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected

from . import buttons, inbound, sending
from .calls import calling, is_passing
from .crypto import Crypto, Waiting
from .inbound import ENCRYPTED, REACTION, Event
from .invites import Invites
from .options import Options
from .outage import Outage
from .rooms import Rooms
from .sending import Sending
from .syncing import Batch, DeferringStore, Stream, earlier, is_initial, since_we_came
from .threads import CURSOR as THREADS
from .threads import Threads

log = logging.getLogger("hermesd.matrix")

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between the tries to keep what must not be left out; the last one for ever."""

RETRY_UNDECRYPTED = 10.0

NO_ENCRYPTION = "MATRIX_ENCRYPTION is not set"

_T = TypeVar("_T")


class Reading:
    """Takes one batch after the other; `take` returns when all of it is kept."""

    def __init__(
        self, platform: str, client: Stream, rooms: Rooms, options: Options, receiver: Receiver, *,
        store: DeferringStore, crypto: Crypto | None, sender: Sending, kept: Mapping[str, str],
        keep: Callable[[Cursor], Awaitable[None]], troubled: Callable[[str], None],
    ):  # fmt: skip
        self._platform = platform
        self._client = client
        self._rooms = rooms
        self._options = options
        self._receiver = receiver
        self._store = store
        self._crypto = crypto
        self._sending = sender
        self._threads = Threads(kept.get(THREADS, ""))
        self._troubled = troubled
        self.encrypted_rooms: set[str] = set()  # where we have not been able to read
        self._told: set[str] = set()  # rooms that know of a message which could not be read
        self._one_at_a_time = asyncio.Lock()
        self.invites = Invites(client, rooms, keep, kept.get("invites", ""), reads_on=bool(store.kept))

    async def take(self, data: Batch) -> None:
        async with self._one_at_a_time:
            await self._insist(lambda: self._take_rest(data))
            rooms = data.get("rooms", {})
            for room, section in rooms.get("join", {}).items():
                self._rooms.take(room, section)
                if not is_initial(data):
                    await self._take_room(room, section)
            for room in rooms.get("leave", {}):
                self._rooms.forget(room)
            if self._crypto is not None and data.get("to_device", {}).get("events"):
                await self._try_undecrypted()
            await self._insist(self._store.settle)
            self.invites.settle()

    async def _take_rest(self, data: Batch) -> None:
        if self._crypto is not None:
            await self._crypto.take_keys(data)
        self._rooms.take_account_data(data)
        await self.invites.take(data, self._rooms.me.user_id)

    async def _take_room(self, room: str, section: Batch) -> None:
        timeline = section.get("timeline", {})
        events = list(timeline.get("events", ()))
        if timeline.get("limited") and timeline.get("prev_batch"):
            try:
                found = await self._insist(
                    lambda: earlier(self._client, room, self._store.kept, timeline["prev_batch"])
                )
            except (Gone, Rejected) as error:
                log.warning("what was said in %s meanwhile cannot be read: %s", room, error)
                found = []
            seen = {event.get("event_id") for event in events}
            events = [*(event for event in found if event.get("event_id") not in seen), *events]
        for event in since_we_came(events, self._rooms.me.user_id):
            await self._take_event({**event, "room_id": room})

    async def _take_event(self, event: Event) -> None:
        try:
            if event.get("type") == ENCRYPTED and self._crypto is None:
                await self._tell_no_encryption(event)
                return
            if event.get("type") == ENCRYPTED:
                readable = await self._insist(lambda: self._decrypted(event))
                if readable is None:
                    return
                event = readable
            if event.get("type") == REACTION:
                await self._take_reaction(event)
            elif not inbound.why_not(event, self._rooms.me):
                await self._take_message(event)
        except (Gone, Rejected) as error:
            log.warning("event %s in %s is left out: %s", event.get("event_id"), event.get("room_id"), error)
        except AdapterError:
            raise  # it is about the connection, not about this event, which comes again
        except Exception:
            # One event that somebody has made up must not keep everybody else's from coming.
            log.exception("event %s in %s is left out", event.get("event_id"), event.get("room_id"))

    async def _decrypted(self, event: Event) -> Event | None:
        assert self._crypto is not None
        return await self._crypto.decrypted(event, time.time())

    async def _take_message(self, event: Event) -> None:
        room_id = str(event["room_id"])
        room = await self._insist(lambda: self._rooms.room(room_id))
        made = inbound.message(
            event, platform=self._platform, me=self._rooms.me, room=room, options=self._options,
            joined=self._threads, sender_name=self._rooms.person(room_id, str(event.get("sender"))),
        )  # fmt: skip
        if isinstance(made, str):
            log.debug("event %s is not for us: %s", event.get("event_id"), made)
            return
        message, address = made
        if message.reply_to_id and not message.reply_to_text:
            message = replace(message, reply_to_text=await self._quoted(message))
        if address.joins:
            self._threads.join(address.joins)
            message = replace(message, cursor=Cursor(THREADS, self._threads.dump()))
        await self._insist(lambda: self._receiver.receive(message))
        self._sending.expect(message)

    async def _quoted(self, message: Inbound) -> str:
        """What the quoted message says; "" where it cannot be had: a quote is no reason to keep anybody waiting."""
        try:
            with calling("read the quoted message"):
                place = Path.v3.rooms[message.chat_id].event[message.reply_to_id]
                event = {**await self._client.api.request(Method.GET, place), "room_id": message.chat_id}
                if event.get("type") == ENCRYPTED and self._crypto is not None:
                    event = dict(await self._crypto.peek(event) or event)
        except AdapterError as error:
            log.debug("%s", error)
            return ""
        return inbound.quote_of(event)

    async def _take_reaction(self, event: Event) -> None:
        if event.get("sender") == self._rooms.me.user_id:
            return
        found = buttons.pressed(self._sending.questions, event)
        if found is None:
            # It may be faster than the server's word which message has become the question.
            await self._sending.asked(str(event["room_id"]))
            found = buttons.pressed(self._sending.questions, event)
        if found is None:
            return
        question_id, choice = found
        question = self._sending.questions[question_id]
        sender = str(event.get("sender"))
        result = await self._receiver.pressed(
            Press(
                platform=self._platform,
                chat_id=question.room,
                message_id=question_id,
                user_id=sender,
                ask=question.ask,
                choice=choice,
                user_name=self._rooms.person(question.room, sender),
                thread_id=question.thread,
            )
        )
        if not result.taken:
            log.info("a reaction of %s was no answer: %s", sender, result.text)

    # ---- what could not be read --------------------------------------------------------------------------------------

    async def retry_undecrypted(self) -> None:
        """Until it is cancelled."""
        assert self._crypto is not None
        while True:
            await asyncio.sleep(RETRY_UNDECRYPTED)
            if self._crypto.waiting:
                async with self._one_at_a_time:
                    await self._try_undecrypted()

    async def _try_undecrypted(self) -> None:
        crypto = self._crypto
        assert crypto is not None
        readable, given_up = await self._insist(lambda: crypto.try_again(time.time()))
        for event in readable:
            await self._take_event(event)
        for waiting in given_up:
            crypto.given_up += 1
            await self._tell_unreadable(waiting)
        done = [*(str(event["event_id"]) for event in readable), *(waiting.event_id for waiting in given_up)]
        await self._insist(lambda: crypto.settled(*done))

    async def _tell_no_encryption(self, event: Event) -> None:
        """Once for each room and life; silence would look like a fault of ours."""
        room = str(event["room_id"])
        if room in self.encrypted_rooms or event.get("sender") == self._rooms.me.user_id:
            return
        self.encrypted_rooms.add(room)
        log.warning("messages in %s cannot be read: it is encrypted, and %s", room, NO_ENCRYPTION)
        await self._sending.tell_unreadable(room, str(event.get("event_id")), sending.NO_ENCRYPTION)

    async def _tell_unreadable(self, waiting: Waiting) -> None:
        """Once for each room: in the log for the owner, in the room for who waits for an answer."""
        if waiting.room in self._told:
            return
        self._told.add(waiting.room)
        log.warning("messages in %s cannot be read: their keys did not arrive", waiting.room)
        await self._sending.tell_unreadable(waiting.room, waiting.event_id)

    async def _insist(self, step: Callable[[], Awaitable[_T]]) -> _T:
        """Do it until it is done: nothing that came may be left out. Raises what no time will mend, and what has made
        the connection be given up: the batch comes again with the next one.
        """
        tries, outage = 0, Outage()
        while True:
            try:
                with calling("read from Matrix"):
                    result = await step()
            except NotAccepted as error:
                self._troubled(f"messages wait: {error.reason}")
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
            except AdapterError as error:
                delay = outage.failed(error, time.monotonic()) if is_passing(error) else None
                if delay is None:
                    raise
                self._troubled(str(error))
                pause = delay
            else:
                if tries:
                    self._troubled("")
                return result
            await asyncio.sleep(pause)
            tries += 1
