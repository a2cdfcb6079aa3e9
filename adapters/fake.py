"""A chat platform that does what it is told: the fake that ships with hermesd, for tests and demonstrations.

It numbers every message, redelivers what was not confirmed, cuts its connection and fails on command, and records what
was sent. A test in the same process calls its methods; a test of an installed hermesd drives it over the Unix socket
named by ``extra.socket``: one JSON object a line in, one JSON object a line out (`hermesd.adapters.fake_socket`).
``extra.record`` names a file that keeps what was said and shown over the death of the process; the next one redelivers
what the core had not confirmed. ``extra.latency`` is how many seconds the platform takes for each message that it is
sent. What else it can do, and its limits, are `hermesd.adapters.fake_powers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import (
    AdapterSettings,
    Attachment,
    Capabilities,
    Inbound,
    MenuEntry,
    Outbound,
    Press,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.fake_powers import Gate, chunks, given_files, powers_of
from hermesd.adapters.fake_record import Record, Shown
from hermesd.adapters.fake_socket import ScriptSocket
from hermesd.adapters.media.store import store
from hermesd.adapters.text import clean

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the core, whatever became of it."""

    word: str  # "send" | "edit" | "delete" | "typing" | "react" | "settle" | "menu"
    chat: str
    message_id: str = ""
    text: str = ""
    kind: str = ""
    key: str = ""
    at: float = 0.0


@dataclass(slots=True)
class _Cut:
    left: int
    error: str
    after: float
    delivered: bool


class FakeAdapter:
    """The scripted platform. ``extra``: socket, record, latency, and what `hermesd.adapters.fake_powers` says."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._socket_path = str(settings.extra.get("socket") or "")
        self._socket = ScriptSocket(self, self._socket_path) if self._socket_path else None
        self._record = Record(str(settings.extra.get("record") or ""))
        self._latency = float(settings.extra.get("latency") or 0.0)
        self._powers = powers_of(settings.extra)
        self._gate = Gate(self._powers.capabilities)
        self.calls: list[Call] = []
        self.signs: dict[tuple[str, str], str] = {}  # our reaction to a message, by chat and id
        self.menu: tuple[MenuEntry, ...] = ()
        self._files: dict[str, bytes] = {}  # what people attached, by the name that it has here
        self._locked: set[str] = set()  # messages that can no longer be edited
        self._run = uuid.uuid4().hex[:6]
        self._said = 0
        self._unconfirmed: dict[tuple[str, str], Inbound] = {}
        self._delivered: dict[tuple[str, str], Inbound] = {}
        self._order: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by chat
        self._chats: set[str] = set()
        self._gone: set[str] = set()
        self._shown: list[Shown] = []
        self._in_chat: defaultdict[str, list[int]] = defaultdict(list)  # places in it, by chat
        self._replies: defaultdict[tuple[str, str], list[int]] = defaultdict(list)  # by chat and what they answer
        self._arrived = asyncio.Condition()
        self._cuts: dict[str, _Cut] = {}
        self._receiver: Receiver | None = None
        self._connected_again = asyncio.Event()
        self._connected_again.set()
        self._breaks = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._state = State("stopped", since=time.time())
        self._remember()
        self._grant(self._powers.can)

    def _grant(self, can: frozenset[str]) -> None:
        """The core looks for what an adapter has; what the script switches off is not there."""
        if "edit" in can:
            self.edit = self._edit
        if "delete" in can:
            self.delete = self._delete
        if "type" in can:
            self.typing = self._typing
        if "react" in can:
            self.react = self._react
        if "buttons" in can:
            self.settle = self._settle
        if "menu" in can:
            self.show_menu = self._show_menu
        if "fetch" in can:
            self.fetch = self._fetch

    # The adapter contract.

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._socket is not None:
            await self._socket.open()
        self._state = State("online", since=time.time())
        if self._unconfirmed:
            self._reconnect_in(0.0, confirmed=False)

    async def stop(self) -> None:
        self._receiver = None
        self._state = State("stopped", since=time.time())
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()
        self._record.close()

    async def send(self, target: Target, message: Outbound) -> Sent:
        self._called("send", target, "", message)
        self._reach(target)
        if self._powers.capabilities.exact_resends and (known := self._by_key(target.chat_id, message.key)) is not None:
            return self._told(known)
        self._gate.check(message)
        cut = self._cuts.get("send")
        if cut is None or cut.left <= 0:
            return await self._take(target, message)
        cut.left -= 1
        if cut.delivered:
            await self._show(target, message)
        raise _failure(cut)

    def _called(self, word: str, target: Target, message_id: str = "", message: Outbound | None = None) -> None:
        text, kind, key = (message.text, message.kind, message.key) if message is not None else ("", "", "")
        self.calls.append(Call(word, target.chat_id, message_id, text, kind, key, time.time()))

    def _reach(self, target: Target) -> None:
        """The way to the chat, as far as it is the platform's."""
        if self._receiver is None or not self._connected_again.is_set():
            raise Retry("cannot send: the fake platform is not connected", after=0.1)
        if target.chat_id not in self._chats or target.chat_id in self._gone:
            raise Gone(f"cannot send to chat {target.chat_id!r}: the platform does not know it")
        self._gate.enter(target.chat_id, time.time())

    def _by_key(self, chat: str, key: str) -> Shown | None:
        return next((shown for shown in self._of(chat) if shown.key == key), None)

    def _of(self, chat: str) -> Iterator[Shown]:
        """What a chat was shown, oldest first: a look at all that was ever shown would cost more with each message."""
        return (self._shown[place] for place in self._in_chat[chat])

    def _by_id(self, target: Target, message_id: str) -> Shown:
        for shown in self._of(target.chat_id):
            if shown.message_id == message_id and not shown.deleted:
                return shown
        raise Gone(f"cannot find message {message_id!r} of chat {target.chat_id!r}")

    def _told(self, shown: Shown) -> Sent:
        return Sent("" if self._powers.withhold_ids else shown.message_id)

    async def _take(self, target: Target, message: Outbound) -> Sent:
        """Takes its time for a message. A break in its first half loses the message, in its second the confirmation."""
        breaks = self._breaks
        await self._take_time(breaks)
        sent = await self._show(target, message)
        await self._take_time(breaks)
        return sent

    async def _take_time(self, breaks: int) -> None:
        if self._latency:
            await asyncio.sleep(self._latency / 2)
        if self._breaks != breaks:
            raise Uncertain("the connection to the fake platform broke", after=0.1)

    def capabilities(self, target: Target) -> Capabilities:
        return self._powers.capabilities

    def state(self) -> State:
        return self._state

    def describe(self) -> dict[str, Any]:
        return {
            "socket": self._socket_path,
            "said": self._said,
            "unconfirmed": len(self._unconfirmed),
            "shown": len(self._shown),
            "floods": self._gate.floods,
        }

    # The optional capabilities, as `_grant` hands them out.

    async def _edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        self._called("edit", target, message_id, message)
        self._reach(target)
        self._gate.check(message)
        cut = self._cuts.get("edit")
        if cut is not None and cut.left > 0:
            cut.left -= 1
            if cut.delivered:
                await self._change(self._by_id(target, message_id), message)
            raise _failure(cut)
        breaks = self._breaks
        await self._take_time(breaks)
        if message_id in self._locked:
            raise Rejected(f"cannot edit message {message_id!r}: it is too old")
        await self._change(self._by_id(target, message_id), message)
        await self._take_time(breaks)
        return Sent(message_id)

    async def _change(self, known: Shown, message: Outbound) -> None:
        question = message.question
        changed = replace(
            known,
            text=message.text,
            kind=message.kind,
            final=message.final,
            key=message.key,
            usage=dict(message.usage),
            ask=question.ask if question is not None else "",
            choices=question.choices if question is not None else None,
            edits=known.edits + (message.text != known.text),
        )
        await self._now(changed)

    async def _now(self, changed: Shown) -> None:
        """The message is so from now on."""
        self._record.shown(changed)
        self._shown[changed.number - 1] = changed
        async with self._arrived:
            self._arrived.notify_all()

    async def _delete(self, target: Target, message_id: str) -> None:
        self._called("delete", target, message_id)
        self._reach(target)
        if (cut := self._cuts.get("delete")) is not None and cut.left > 0:
            cut.left -= 1
            raise _failure(cut)
        with contextlib.suppress(Gone):
            await self._now(replace(self._by_id(target, message_id), deleted=True))

    async def _typing(self, target: Target) -> None:
        self._called("typing", target)
        self._reach(target)

    async def _react(self, target: Target, sign: str) -> None:
        self._called("react", target, target.reply_to, Outbound("", sign))
        self._reach(target)
        self.signs[(target.chat_id, target.reply_to)] = sign

    async def _settle(self, target: Target, message_id: str, text: str) -> None:
        self._called("settle", target, message_id, Outbound("", text))
        self._reach(target)
        if (cut := self._cuts.get("settle")) is not None and cut.left > 0:
            cut.left -= 1
            raise _failure(cut)
        await self._now(replace(self._by_id(target, message_id), text=text, ask="", choices=None))

    async def _show_menu(self, entries: Sequence[MenuEntry]) -> None:
        self.calls.append(Call("menu", "", at=time.time()))
        self.menu = tuple(entries)

    async def _fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        if (cut := self._cuts.get("fetch")) is not None and cut.left > 0:
            cut.left -= 1
            raise _failure(cut)
        if file.remote not in self._files:
            raise Gone(f"cannot fetch {file.name}: it is no longer there")
        return await store(chunks(self._files[file.remote]), file, directory, limit)

    # What a script does as the platform and its users.

    async def say(
        self,
        text: str,
        *,
        user: str = "user",
        chat: str = "chat",
        message_id: str = "",
        chat_type: str = "dm",
        thread: str = "",
        user_name: str = "",
        trusted: bool = False,
        files: Sequence[dict[str, Any]] = (),
        album: str = "",
        reply_to: str = "",
        reply_text: str = "",
    ) -> bool:
        """A person writes; ``files`` as `hermesd.adapters.fake_powers.given_files` has them.

        Returns whether it was new to the core; raises `NotAccepted` when the core refused it, and keeps it then for
        `redeliver`, as it does when this is cancelled. A chat's messages are delivered in their order: those that the
        core has not taken come first.
        """
        attachments, contents = given_files(list(files))
        self._files |= contents
        inbound = Inbound(
            platform=self.name,
            chat_id=chat,
            message_id=message_id or self.next_id(),
            user_id=user,
            text=clean(text),
            user_name=user_name or user,
            chat_type=chat_type,
            thread_id=thread,
            trusted=trusted,
            sent_at=time.time(),
            attachments=attachments,
            album=album,
            reply_to_id=reply_to,
            reply_to_text=reply_text,
        )
        self._said += 1
        self._chats.add(chat)
        self._record.said(inbound)
        self._unconfirmed[(chat, inbound.message_id)] = inbound
        new = False
        async with self._order[chat]:
            for waiting in [one for one in self._unconfirmed.values() if one.chat_id == chat]:
                new = await self._deliver(waiting)
                if waiting is inbound:
                    break
        return new

    async def redeliver(self, *, confirmed: bool = False) -> int:
        """Deliver again what the core has not confirmed, and with ``confirmed`` what it has; returns how many were new
        to the core. A platform does this after a reconnect.
        """
        again = [*self._delivered.values()] if confirmed else []
        fresh = 0
        for inbound in [*again, *self._unconfirmed.values()]:
            async with self._order[inbound.chat_id]:
                fresh += await self._deliver(inbound)
        return fresh

    def next_id(self) -> str:
        """The id of the message that is said next, unless it is given one."""
        return f"{self._run}-{self._said + 1}"

    @property
    def floods(self) -> int:
        """How many calls came faster than `Capabilities` allow, and were refused."""
        return self._gate.floods

    def hang_up(self, chat: str, message_id: str) -> None:
        """The one who wrote this message does not wait for its answer any more."""
        if self._receiver is not None:
            self._receiver.cancel(Target(self.name, chat, reply_to=message_id))

    def disconnect(self, seconds: float, *, confirmed: bool = False) -> None:
        """The connection breaks, and is there again after ``seconds``: what people write meanwhile waits at the
        platform and is delivered then, and with ``confirmed`` what the core has confirmed comes once more, too.
        """
        self._breaks += 1
        self._connected_again.clear()
        self._state = State("backing_off", "the connection broke", since=time.time())
        self._reconnect_in(seconds, confirmed=confirmed)

    async def press(self, chat: str, message_id: str, choice: str, *, user: str = "user") -> dict[str, Any]:
        """A person presses a button. Returns whether it counted and what they are told."""
        if self._receiver is None:
            raise NotAccepted("the fake platform is not connected", code="stopped")
        shown = self._by_id(Target(self.name, chat), message_id)
        pressed = await self._receiver.pressed(
            Press(self.name, chat, message_id, user, shown.ask, choice, user, thread_id=shown.thread)
        )
        return {"taken": pressed.taken, "text": pressed.text}

    def lock(self, message_id: str) -> None:
        """This message can no longer be edited."""
        self._locked.add(message_id)

    def cut(
        self, count: int = 1, *, error: str = "", after: float = 0.1, delivered: bool = False, call: str = "send"
    ) -> None:
        """Let the next ``count`` calls ("send", "edit", "delete", "settle", "fetch") fail with "retry" (the default),
        "flood", "uncertain", "gone", "rejected" or "unauthorized"; with ``delivered`` the message is shown all the same
        and the failure is "uncertain" by default, as when only the confirmation was lost.
        """
        error = error or ("uncertain" if delivered else "retry")
        if error not in _FAILURES:
            raise ValueError(f"cannot cut with {error!r}: known are {', '.join(_FAILURES)}")
        self._cuts[call] = _Cut(count, error, after, delivered)

    def close_chat(self, chat: str) -> None:
        """The chat is deleted: everything sent there is `Gone`."""
        self._gone.add(chat)

    def transcript(self, *, chat: str | None = None, reply_to: str | None = None) -> list[Shown]:
        """What the core has sent and not taken back, oldest first, as it reads now."""
        if chat is not None and reply_to is not None:
            of_it: Iterable[Shown] = (self._shown[place] for place in self._replies[chat, reply_to])
        else:
            of_it = self._shown if chat is None else self._of(chat)
        return [shown for shown in of_it if not shown.deleted and (reply_to is None or shown.reply_to == reply_to)]

    def unconfirmed(self) -> list[str]:
        """Ids of the messages that the core has not confirmed, oldest first."""
        return [message_id for _, message_id in self._unconfirmed]

    async def wait(
        self,
        count: int,
        timeout: float,
        *,
        chat: str | None = None,
        reply_to: str | None = None,
        final: bool = False,
        containing: str = "",
    ) -> bool:
        """Wait until the core has sent ``count`` messages (``final``: only final ones count; ``containing``: only those
        that read so by now); False: time ran out.
        """

        def enough() -> bool:
            found = self.transcript(chat=chat, reply_to=reply_to)
            return sum(1 for shown in found if (shown.final or not final) and containing in shown.text) >= count

        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(enough)
        except TimeoutError:
            return False
        return True

    def _reconnect_in(self, seconds: float, *, confirmed: bool) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self._reconnecting = asyncio.create_task(self._reconnect(seconds, confirmed), name="fake-reconnect")

    async def _reconnect(self, seconds: float, confirmed: bool) -> None:
        await asyncio.sleep(seconds)
        self._connected_again.set()
        self._state = State("online", since=time.time())
        try:
            await self.redeliver(confirmed=confirmed)
        except NotAccepted as refusal:
            log.info("fake platform: the core takes nothing now: %s", refusal)

    async def _deliver(self, inbound: Inbound) -> bool:
        if self._receiver is None:
            raise NotAccepted("the fake platform is not connected", code="stopped")
        if not self._connected_again.is_set():
            raise NotAccepted("the connection to the fake platform is broken", code="disconnected")
        new = await self._receiver.receive(inbound)
        place = (inbound.chat_id, inbound.message_id)
        if self._unconfirmed.pop(place, None) is not None:
            self._record.confirmed(*place)
        self._delivered[place] = inbound
        return new

    async def _show(self, target: Target, message: Outbound) -> Sent:
        shown = Shown(
            number=len(self._shown) + 1,
            chat=target.chat_id,
            thread=target.thread_id,
            reply_to=target.reply_to,
            key=message.key,
            text=message.text,
            kind=message.kind,
            final=message.final,
            files=tuple(file.path for file in message.files),
            usage=dict(message.usage),
            at=time.time(),
            message_id=f"out-{len(self._shown) + 1}",
            quotes=message.quotes,
            choices=message.question.choices if message.question is not None else None,
            ask=message.question.ask if message.question is not None else "",
        )
        # Before the core hears of success, so that nothing it believes sent is missing.
        self._record.shown(shown)
        self._append(shown)
        async with self._arrived:
            self._arrived.notify_all()
        return self._told(shown)

    def _append(self, shown: Shown) -> None:
        self._in_chat[shown.chat].append(len(self._shown))
        self._replies[shown.chat, shown.reply_to].append(len(self._shown))
        self._shown.append(shown)

    def _remember(self) -> None:
        memory = self._record.load(self.name)
        self._chats.update(chat for chat, _ in memory.said)
        for shown in memory.shown:
            self._append(shown)
        for place, inbound in memory.said.items():
            (self._delivered if place in memory.confirmed else self._unconfirmed)[place] = inbound


_FAILURES = ("retry", "flood", "uncertain", "gone", "rejected", "unauthorized")


def _failure(cut: _Cut) -> AdapterError:
    reason = "cannot send: the fake platform was told to fail"
    if cut.error in ("retry", "flood"):
        return Retry(reason, after=cut.after, flood=cut.error == "flood")
    if cut.error == "uncertain":
        return Uncertain(reason, after=cut.after)
    return {"gone": Gone, "rejected": Rejected, "unauthorized": Unauthorized}[cut.error](reason)
