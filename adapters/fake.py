"""A chat platform that does what it is told: the fake that ships with hermesd, for tests and demonstrations.

It numbers every message, redelivers what was not confirmed, fails on command and records what was sent. A test in the
same process calls its methods; a test of an installed hermesd drives it over the Unix socket named by ``extra.socket``:
one JSON object a line in, one JSON object a line out (`FakeAdapter._OPERATIONS` lists them). ``extra.record`` names a
file that keeps the transcript over the death of the process, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import AdapterSettings, Capabilities, Inbound, Outbound, Receiver, Sent, State, Target
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected, Retry, Unauthorized
from hermesd.adapters.text import clean

LINE_LIMIT = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """One message that the platform took from the core, as its users see it."""

    number: int
    chat: str
    thread: str
    reply_to: str
    key: str
    text: str
    kind: str
    final: bool
    files: tuple[str, ...] = ()
    usage: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(slots=True)
class _Cut:
    left: int
    error: str
    after: float
    delivered: bool


class FakeAdapter:
    """The scripted platform. ``extra``: socket, record, max_length."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._socket_path = str(settings.extra.get("socket") or "")
        self._record_path = str(settings.extra.get("record") or "")
        self._max_length = int(settings.extra.get("max_length") or 0)
        self._run = uuid.uuid4().hex[:6]
        self._said = 0
        self._unconfirmed: dict[tuple[str, str], Inbound] = {}
        self._delivered: dict[tuple[str, str], Inbound] = {}
        self._chats: set[str] = set()
        self._gone: set[str] = set()
        self._shown: list[Shown] = []
        self._arrived = asyncio.Condition()
        self._cut: _Cut | None = None
        self._receiver: Receiver | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._state = State("stopped", since=time.time())
        self._load_record()

    # The adapter contract.

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._socket_path:
            await self._listen(self._socket_path)
        self._state = State("online", since=time.time())

    async def stop(self) -> None:
        self._receiver = None
        self._state = State("stopped", since=time.time())
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._socket_path)

    async def send(self, target: Target, message: Outbound) -> Sent:
        if self._receiver is None:
            raise Retry("cannot send: the fake platform is not connected")
        if target.chat_id not in self._chats or target.chat_id in self._gone:
            raise Gone(f"cannot send to chat {target.chat_id!r}: the platform does not know it")
        cut = self._cut
        if cut is None or cut.left <= 0:
            return await self._show(target, message)
        cut.left -= 1
        if cut.delivered:
            await self._show(target, message)
        raise _failure(cut)

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
        keeps it then for `redeliver`, as it does when this is cancelled.
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
        self._record({"in": {"chat": chat, "message_id": inbound.message_id, "text": inbound.text}})
        self._unconfirmed[(chat, inbound.message_id)] = inbound
        return await self._deliver(inbound)

    async def redeliver(self, *, confirmed: bool = False) -> int:
        """Deliver again what the core has not confirmed, and with ``confirmed`` what it has; returns how many were new
        to the core. A platform does this after a reconnect.
        """
        again = [*self._delivered.values()] if confirmed else []
        fresh = 0
        for inbound in [*again, *self._unconfirmed.values()]:
            fresh += await self._deliver(inbound)
        return fresh

    def hang_up(self, chat: str, message_id: str) -> None:
        """The one who wrote this message does not wait for its answer any more."""
        if self._receiver is not None:
            self._receiver.cancel(Target(self.name, chat, reply_to=message_id))

    def cut(self, count: int = 1, *, error: str = "retry", after: float = 0.1, delivered: bool = False) -> None:
        """Let the next ``count`` sends fail with "retry", "gone", "rejected" or "unauthorized"; with ``delivered`` the
        message is shown all the same, as when only the confirmation was lost.
        """
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

    async def _deliver(self, inbound: Inbound) -> bool:
        if self._receiver is None:
            raise NotAccepted("the fake platform is not connected", code="stopped")
        new = await self._receiver.receive(inbound)
        place = (inbound.chat_id, inbound.message_id)
        self._unconfirmed.pop(place, None)
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
        self._record({"out": asdict(shown)})
        self._shown.append(shown)
        async with self._arrived:
            self._arrived.notify_all()
        return Sent(f"out-{shown.number}")

    # The record: appended before the core hears of success, so that nothing it believes sent is missing.

    def _record(self, entry: dict[str, Any]) -> None:
        if self._record_path:
            with open(self._record_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def _load_record(self) -> None:
        if not self._record_path or not Path(self._record_path).exists():
            return
        for line in Path(self._record_path).read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                log.warning("fake platform: a torn line in %s is left out", self._record_path)
                continue
            if "in" in entry:
                self._chats.add(entry["in"]["chat"])
            else:
                self._shown.append(Shown(**{**entry["out"], "files": tuple(entry["out"]["files"])}))

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
        "hang_up": _op_hang_up,  # chat, message_id
        "close_chat": _op_close_chat,  # chat
        "wait": _op_wait,  # count, timeout, chat, reply_to, final -> met, count (of all messages)
    }


_FAILURES = ("retry", "gone", "rejected", "unauthorized")


def _failure(cut: _Cut) -> AdapterError:
    reason = "cannot send: the fake platform was told to fail"
    if cut.error == "retry":
        return Retry(reason, after=cut.after)
    return {"gone": Gone, "rejected": Rejected, "unauthorized": Unauthorized}[cut.error](reason)
