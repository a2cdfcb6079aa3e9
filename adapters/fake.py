"""A chat platform that does what it is told: the fake that ships with hermesd, for tests and demonstrations.

It numbers every message, redelivers what was not confirmed, cuts its connection and fails on command, and records what
was sent. A test in the same process calls its methods; a test of an installed hermesd drives it over the Unix socket
named by ``extra.socket``: one JSON object a line in, one JSON object a line out (`FakeAdapter._OPERATIONS` lists them).
``extra.record`` names a file that keeps what was said and shown over the death of the process; the next one redelivers
what the core had not confirmed. ``extra.latency`` is how many seconds the platform takes for each message that it is
sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

from hermesd.adapters.contract import AdapterSettings, Capabilities, Inbound, Outbound, Receiver, Sent, State, Target
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.fake_record import Record, Shown
from hermesd.adapters.text import clean

LINE_LIMIT = 1 << 20

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Cut:
    left: int
    error: str
    after: float
    delivered: bool


class FakeAdapter:
    """The scripted platform. ``extra``: socket, record, latency, max_length."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._socket_path = str(settings.extra.get("socket") or "")
        self._record = Record(str(settings.extra.get("record") or ""))
        self._latency = float(settings.extra.get("latency") or 0.0)
        self._max_length = int(settings.extra.get("max_length") or 0)
        self._run = uuid.uuid4().hex[:6]
        self._said = 0
        self._unconfirmed: dict[tuple[str, str], Inbound] = {}
        self._delivered: dict[tuple[str, str], Inbound] = {}
        self._order: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by chat
        self._chats: set[str] = set()
        self._gone: set[str] = set()
        self._shown: list[Shown] = []
        self._arrived = asyncio.Condition()
        self._cut: _Cut | None = None
        self._receiver: Receiver | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._connected_again = asyncio.Event()
        self._connected_again.set()
        self._breaks = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._state = State("stopped", since=time.time())
        self._remember()

    # The adapter contract.

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._socket_path:
            await self._listen(self._socket_path)
        self._state = State("online", since=time.time())
        if self._unconfirmed:
            self._reconnect_in(0.0, confirmed=False)

    async def stop(self) -> None:
        self._receiver = None
        self._state = State("stopped", since=time.time())
        if self._server is not None:
            self._server.close()
        tasks = [*self._connections, *([self._reconnecting] if self._reconnecting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._socket_path)

    async def send(self, target: Target, message: Outbound) -> Sent:
        if self._receiver is None or not self._connected_again.is_set():
            raise Retry("cannot send: the fake platform is not connected", after=0.1)
        if target.chat_id not in self._chats or target.chat_id in self._gone:
            raise Gone(f"cannot send to chat {target.chat_id!r}: the platform does not know it")
        cut = self._cut
        if cut is None or cut.left <= 0:
            return await self._take(target, message)
        cut.left -= 1
        if cut.delivered:
            await self._show(target, message)
        raise _failure(cut)

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
        return Capabilities(max_length=self._max_length)

    def state(self) -> State:
        return self._state

    def describe(self) -> dict[str, Any]:
        return {
            "socket": self._socket_path,
            "said": self._said,
            "unconfirmed": len(self._unconfirmed),
            "shown": len(self._shown),
        }

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
    ) -> bool:
        """A person writes. Returns whether it was new to the core; raises `NotAccepted` when the core refused it, and
        keeps it then for `redeliver`, as it does when this is cancelled. A chat's messages are delivered in their
        order: those that the core has not taken come first.
        """
        self._said += 1
        inbound = Inbound(
            platform=self.name,
            chat_id=chat,
            message_id=message_id or f"{self._run}-{self._said}",
            user_id=user,
            text=clean(text),
            user_name=user_name or user,
            chat_type=chat_type,
            thread_id=thread,
            trusted=trusted,
            sent_at=time.time(),
        )
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

    def cut(self, count: int = 1, *, error: str = "", after: float = 0.1, delivered: bool = False) -> None:
        """Let the next ``count`` sends fail with "retry" (the default), "uncertain", "gone", "rejected" or
        "unauthorized"; with ``delivered`` the message is shown all the same and the failure is "uncertain" by default,
        as when only the confirmation was lost.
        """
        error = error or ("uncertain" if delivered else "retry")
        if error not in _FAILURES:
            raise ValueError(f"cannot cut with {error!r}: known are {', '.join(_FAILURES)}")
        self._cut = _Cut(count, error, after, delivered)

    def close_chat(self, chat: str) -> None:
        """The chat is deleted: everything sent there is `Gone`."""
        self._gone.add(chat)

    def transcript(self, *, chat: str | None = None, reply_to: str | None = None) -> list[Shown]:
        """What the core has sent, oldest first."""
        return [
            shown
            for shown in self._shown
            if (chat is None or shown.chat == chat) and (reply_to is None or shown.reply_to == reply_to)
        ]

    def unconfirmed(self) -> list[str]:
        """Ids of the messages that the core has not confirmed, oldest first."""
        return [message_id for _, message_id in self._unconfirmed]

    async def wait(
        self, count: int, timeout: float, *, chat: str | None = None, reply_to: str | None = None, final: bool = False
    ) -> bool:
        """Wait until the core has sent ``count`` messages (``final``: only final ones count); False: time ran out."""

        def enough() -> bool:
            found = self.transcript(chat=chat, reply_to=reply_to)
            return sum(1 for shown in found if shown.final or not final) >= count

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
        )
        # Before the core hears of success, so that nothing it believes sent is missing.
        self._record.shown(shown)
        self._shown.append(shown)
        async with self._arrived:
            self._arrived.notify_all()
        return Sent(f"out-{shown.number}")

    def _remember(self) -> None:
        memory = self._record.load(self.name)
        self._chats.update(chat for chat, _ in memory.said)
        self._shown += memory.shown
        for place, inbound in memory.said.items():
            (self._delivered if place in memory.confirmed else self._unconfirmed)[place] = inbound

    # The socket.

    async def _listen(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        try:
            self._server = await asyncio.start_unix_server(self._connected, path, limit=LINE_LIMIT)
            os.chmod(path, 0o600)
        except OSError as error:
            raise AdapterError(f"cannot listen on {path}: {error.strerror or error}") from error

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("fake-connection")
        self._connections.add(task)
        try:
            while line := await reader.readline():
                writer.write((json.dumps(await self._operate(line)) + "\n").encode())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError, ValueError) as error:
            log.debug("fake platform: a driver left: %r", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _operate(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = self._OPERATIONS[request.pop("op")]
        except (ValueError, KeyError, AttributeError) as error:
            return {"error": f"cannot read {line!r}: {error!r}; operations: {', '.join(self._OPERATIONS)}"}
        try:
            return await operation(self, **request)
        except NotAccepted as error:
            return {"accepted": False, "reason": error.reason, "code": error.code}
        except (TypeError, ValueError) as error:
            return {"error": str(error)}

    async def _op_say(self, text: str, **where: Any) -> dict[str, Any]:
        where.setdefault("message_id", f"{self._run}-{self._said + 1}")
        new = await self.say(text, **where)
        return {"accepted": True, "new": new, "message_id": where["message_id"]}

    async def _op_redeliver(self, **which: Any) -> dict[str, Any]:
        return {"accepted": True, "new": await self.redeliver(**which)}

    async def _op_transcript(self, **which: Any) -> dict[str, Any]:
        return {"messages": [asdict(shown) for shown in self.transcript(**which)]}

    async def _op_unconfirmed(self) -> dict[str, Any]:
        return {"message_ids": self.unconfirmed()}

    async def _op_cut(self, count: int = 1, **how: Any) -> dict[str, Any]:
        self.cut(count, **how)
        return {"ok": True}

    async def _op_disconnect(self, seconds: float, **how: Any) -> dict[str, Any]:
        self.disconnect(seconds, **how)
        return {"ok": True}

    async def _op_hang_up(self, chat: str, message_id: str) -> dict[str, Any]:
        self.hang_up(chat, message_id)
        return {"ok": True}

    async def _op_close_chat(self, chat: str) -> dict[str, Any]:
        self.close_chat(chat)
        return {"ok": True}

    async def _op_wait(self, count: int, timeout: float = 30.0, **which: Any) -> dict[str, Any]:
        met = await self.wait(count, timeout, **which)
        return {"met": met, "count": len(self._shown)}

    # Parameters, then what comes back. Any operation may return {"error": TEXT} instead.
    _OPERATIONS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
        # accepted, new, message_id; or accepted (false), reason, code
        "say": _op_say,  # text, user, chat, message_id, chat_type, thread, user_name, trusted
        "redeliver": _op_redeliver,  # confirmed -> accepted, new (how many)
        "transcript": _op_transcript,  # chat, reply_to -> messages
        "unconfirmed": _op_unconfirmed,  # -> message_ids
        "cut": _op_cut,  # count, error, after, delivered
        "disconnect": _op_disconnect,  # seconds, confirmed
        "hang_up": _op_hang_up,  # chat, message_id
        "close_chat": _op_close_chat,  # chat
        "wait": _op_wait,  # count, timeout, chat, reply_to, final -> met, count (of all messages)
    }


_FAILURES = ("retry", "uncertain", "gone", "rejected", "unauthorized")


def _failure(cut: _Cut) -> AdapterError:
    reason = "cannot send: the fake platform was told to fail"
    if cut.error == "retry":
        return Retry(reason, after=cut.after)
    if cut.error == "uncertain":
        return Uncertain(reason, after=cut.after)
    return {"gone": Gone, "rejected": Rejected, "unauthorized": Unauthorized}[cut.error](reason)
