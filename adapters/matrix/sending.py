"""Everything that goes to the server because the core asks for it. Each call raises the core's errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

from mautrix.api import Method, Path
from mautrix.errors import MNotFound
from mautrix.types import EventType

from hermesd.adapters.contract import Cursor, Inbound, Outbound, Sent, Target
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Retry

from . import buttons, media, outbound
from .calls import Limited, calling
from .crypto import Crypto
from .inbound import relation_of
from .outbound import Content, transaction
from .pace import Pace
from .rooms import Rooms
from .syncing import Stream

log = logging.getLogger("hermesd.matrix")

MESSAGE = EventType.ROOM_MESSAGE
STICKER = EventType.STICKER
REACTION = EventType.REACTION

TYPING_SECONDS = 5.0
"""The core repeats it every two; longer would show after the answer where that gets lost."""

REMEMBERED = 1000
"""Messages whose reactions and receipts are known without asking."""

NO_ENCRYPTION = "I cannot read this message: this room is encrypted, and I have not been set up for that."

UNREADABLE = (
    "I cannot read this message: the key to it did not reach me. Please send it again; if that does not help, "
    "this room's encryption must be begun anew (/discardsession in Element)."
)


class Sending:
    """``kept``: the cursors of the life before."""

    def __init__(
        self, client: Stream, rooms: Rooms, crypto: Crypto | None, keep: Callable[[Cursor], Awaitable[None]],
        kept: Mapping[str, str],
    ):  # fmt: skip
        self._client = client
        self._rooms = rooms
        self._crypto = crypto
        self._keep = keep
        self.now = asyncio.get_running_loop().time
        self._reactions: dict[str, str] = {}  # message -> our reaction to it, "" for none
        self._typing: dict[str, float] = {}  # room -> until when, by now()
        self._unread: dict[str, None] = {}  # messages whose sender does not know yet that we have seen them
        self.pace = Pace()
        self._one_at_a_time = asyncio.Lock()
        self.questions = buttons.load(kept.get(buttons.CURSOR, ""))
        self._asking: dict[asyncio.Future[None], str] = {}  # questions under way: done when they are known, by room

    def expect(self, message: Inbound) -> None:
        """A message has come: nobody has reacted to it for us yet, and its sender does not know that it was read."""
        self._reactions.setdefault(message.message_id, "")
        self._unread[message.message_id] = None
        for remembered in (self._reactions, self._unread):
            while len(remembered) > REMEMBERED:
                del remembered[next(iter(remembered))]

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def send(self, target: Target, message: Outbound) -> Sent:
        await self._read(target)
        if message.files:
            event_id = await self._send_file(target, message)
        elif message.question is not None and (signs := buttons.signs(message.question.choices)):
            event_id = await self._ask(target, message, signs)
        else:
            event_id = await self._put(target.chat_id, MESSAGE, outbound.text(message, target), message.key)
        await self._stop_typing(target.chat_id)
        return Sent(event_id)

    @asynccontextmanager
    async def _writing(self, doing: str) -> AsyncIterator[None]:
        """A call that the server counts. Raises `Retry` instead of one that it does not want yet.

        One at a time where it has refused some: of all that have waited one finds out that there are too many.
        """
        async with self._one_at_a_time if self.pace.interval(self.now()) else nullcontext():
            with self._counted(doing):
                yield

    @contextmanager
    def _counted(self, doing: str) -> Iterator[None]:
        if wait := self.pace.closed_for(self.now()):
            raise Retry(f"cannot {doing}: the server takes no message for {wait:.1f} s", after=wait, overall=True)
        try:
            with calling(doing):
                yield
        except Retry as error:
            if not isinstance(error.__cause__, Limited):
                raise
            wait = self.pace.refused(error.after, self.now())
            raise Retry(str(error), after=wait, overall=True) from error.__cause__

    async def _put(self, room: str, kind: EventType, content: Content, *key: str) -> str:
        """Send one event; the same key makes it the same event, however often it is sent."""
        if not room.startswith("!"):
            raise Gone(f"cannot send to {room!r}: it is no room of Matrix")
        async with self._writing(f"send to {room}"):
            return str(
                await self._client.send_message_event(room, kind, content, txn_id=transaction(room, str(kind), *key))  # type: ignore[arg-type]
            )

    async def _send_file(self, target: Target, message: Outbound) -> str:
        file = message.files[0]
        with calling(f"send to {target.chat_id}"):
            encrypted = self._crypto is not None and await self._crypto.is_encrypted(target.chat_id)
        stored = await media.upload(self._client, file, encrypted=encrypted)
        if outbound.is_sticker(file):
            content = outbound.sticker(message, target, file, stored)
            return await self._put(target.chat_id, STICKER, content, message.key)
        return await self._put(target.chat_id, MESSAGE, outbound.file(message, target, file, stored), message.key)

    async def _ask(self, target: Target, message: Outbound, signs: dict[str, str]) -> str:
        assert message.question is not None
        body = f"{message.text}\n\n{buttons.legend(signs)}"
        question = buttons.Question(target.chat_id, message.question.ask, signs, target.thread_id)
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking[known] = target.chat_id
        try:
            event_id = await self._put(target.chat_id, MESSAGE, outbound.text(message, target, body), message.key)
            self.questions[event_id] = question
        finally:
            del self._asking[known]
            known.set_result(None)
        while len(self.questions) > buttons.KEPT:
            del self.questions[next(iter(self.questions))]
        await self._keep_questions()
        for sign in signs:
            try:
                content = outbound.reaction(event_id, sign)
                question.reactions.append(await self._put(target.chat_id, REACTION, content, message.key, sign))
            except AdapterError as error:
                log.info("a choice of a question is not shown as a reaction: %s", error)  # text answers it as well
        await self._keep_questions()
        return event_id

    async def asked(self, room: str) -> None:
        """Until each question that is on its way into this room is known by its event, or has failed."""
        if under_way := [known for known, where in self._asking.items() if where == room]:
            await asyncio.wait(under_way)

    async def _keep_questions(self) -> None:
        try:
            await self._keep(Cursor(buttons.CURSOR, buttons.dump(self.questions)))
        except NotAccepted as refusal:  # it is in the room; only its reactions do not outlive this hermesd
            log.warning("cannot keep the open questions of Matrix: %s", refusal)

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        content = outbound.edit(message, message_id)
        await self._put(target.chat_id, MESSAGE, content, message.key, message_id, message.kind, message.text)
        if message.final:
            await self._stop_typing(target.chat_id)
        return Sent(message_id)

    async def delete(self, target: Target, message_id: str) -> None:
        await self._redact(target.chat_id, message_id)

    async def _redact(self, room: str, event_id: str) -> None:
        try:
            async with self._writing(f"take back a message in {room}"):
                # mautrix makes up a transaction id for each try (mautrix/client/api/events.py:755).
                place = Path.v3.rooms[room].redact[event_id][transaction(room, "redact", event_id)]
                await self._client.api.request(Method.PUT, place)
        except Gone as error:
            if not isinstance(error.__cause__, MNotFound):
                raise

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        question = self.questions.pop(message_id, None)
        await self.edit(target, message_id, Outbound(f"settle:{message_id}", text, kind="question"))
        if question is not None:
            for reaction in question.reactions:
                await self._redact(target.chat_id, reaction)
            await self._keep_questions()

    # ---- signs of life -----------------------------------------------------------------------------------------------

    async def typing(self, target: Target) -> None:
        await self._read(target)
        with calling("show that we write"):
            await self._client.set_typing(target.chat_id, int(TYPING_SECONDS * 1000))  # type: ignore[arg-type]
        self._typing[target.chat_id] = self.now() + TYPING_SECONDS

    async def _stop_typing(self, room: str) -> None:
        if self._typing.pop(room, 0.0) <= self.now():
            return
        try:
            with calling("show that we do not write any more"):
                await self._client.set_typing(room, 0)  # type: ignore[arg-type]
        except AdapterError as error:
            log.debug("%s", error)

    async def _read(self, target: Target) -> None:
        """Tell that a message was read: only when it is being answered, so that strangers learn nothing."""
        if not target.reply_to or self._unread.pop(target.reply_to, self) is self:
            return
        body = {"thread_id": target.thread_id} if target.thread_id not in ("", target.reply_to) else {}
        path = Path.v3.rooms[target.chat_id].receipt["m.read"][target.reply_to]
        try:
            with calling("send a receipt"):
                await self._client.api.request(Method.POST, path, body)
        except AdapterError as error:
            log.debug("%s", error)

    async def react(self, target: Target, sign: str) -> None:
        message_id = target.reply_to
        before = self._reactions.get(message_id)
        if before is None:
            before = await self._reaction_of_earlier_life(target.chat_id, message_id)
        # On a server that allows few messages the answers go first: a sign that is there is taken away at most.
        if sign and not self.pace.interval(self.now()):
            content = outbound.reaction(message_id, sign)
            # The one before is part of the key: the same sign may come again after another one.
            made = await self._put(target.chat_id, REACTION, content, "react", message_id, sign, before)
        else:
            made = ""
        self._reactions[message_id] = made
        if before and before != made:
            await self._redact(target.chat_id, before)

    async def _reaction_of_earlier_life(self, room: str, event_id: str) -> str:
        path = Path.v1.rooms[room].relations[event_id]["m.annotation"]["m.reaction"]
        with calling("look for our reaction"):
            answer: dict[str, Any] = await self._client.api.request(Method.GET, path)
        own = [one for one in answer.get("chunk", ()) if one.get("sender") == self._client.mxid and relation_of(one)]
        return str(own[0]["event_id"]) if own else ""

    async def tell_unreadable(self, room: str, event_id: str, why: str = UNREADABLE) -> None:
        """A word to somebody whose message cannot be decrypted; no failure of it matters."""
        message = Outbound(f"unreadable:{event_id}", why, kind="notice")
        try:
            await self._put(room, MESSAGE, outbound.text(message, Target("", room, reply_to=event_id)), message.key)
        except AdapterError as error:
            log.info("%s", error)
