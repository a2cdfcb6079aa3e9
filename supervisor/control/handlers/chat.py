"""``chat``: a terminal attached to the local way in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hermesd.adapters.contract import AttachedChat, Outbound
from hermesd.adapters.errors import AdapterError, Gone
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.journal import chats

from .handler import Handler, Params

LOCAL = "local"

KINDS = {"error": "failed", "answer": "answer", "question": "question"}
"""The kind of an event for the kind of an `Outbound`; all others are notices."""


class ChatHandler(Handler):
    async def chat(self, params: Params, inputs: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[Any]:
        place = self._app.attachable()
        if place is None:
            raise Refused(Code.BUSY, "the local chat is not up")
        front = ChatFront(params["waiting"])
        try:
            chat = place.attach(params["name"], front)
        except AdapterError as error:
            raise Refused(Code.USAGE, str(error)) from error
        key = ":".join(part for part in ("agent:main:local:dm", params["name"]) if part)
        patience = self._app.loaded.settings.hermesd.adopt_timeout_seconds
        yield {"kind": "open", "text": "", "session": key, "adopt_timeout_s": patience}
        reading = asyncio.ensure_future(self._say_all(chat, inputs, front))
        try:
            while True:
                shown = await front.events.get()
                if shown is None:
                    break
                yield shown.event
                shown.written()
            yield Done({"answered": front.answered, "failed": front.failed, "closing": front.closing})
        finally:
            reading.cancel()
            chat.detach()
            front.left()

    async def _say_all(self, chat: AttachedChat, inputs: AsyncIterator[Mapping[str, Any]], front: ChatFront) -> None:
        async for line in inputs:
            message_id = line["id"] or os.urandom(16).hex()
            if line["again"] and message_id not in front.waiting:
                continue  # answered since this connection began
            front.waiting.add(message_id)
            try:
                await chat.say(line["text"], message_id)
            except AdapterError as error:
                if self._app.state != "restarting":  # else its client says it again to the next life
                    front.fail(message_id, str(error))
                continue
            if line["again"] and not await self._app.journal.read(chats.owes_answer, LOCAL, chat.name, message_id):
                front.fail(message_id, "it was answered while nobody was attached, and that was shown elsewhere")
        front.no_more_input()


@dataclass(frozen=True, slots=True)
class Shown:
    """An event, and who waits until it is written to the connection."""

    event: dict[str, Any]
    done: asyncio.Future[None] | None = None

    def written(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class ChatFront:
    """One connection of ``hermesctl chat`` as the local adapter sees it."""

    def __init__(self, waiting: Iterable[str] = ()) -> None:
        self.events: asyncio.Queue[Shown | None] = asyncio.Queue()
        self.waiting = set(waiting)  # lines without an answer
        self.answered = 0
        self.failed = 0
        self._no_more = False
        self.closing = False  # hermesd leaves, whatever is still to be answered
        self._gone = False
        self._writing: set[asyncio.Future[None]] = set()

    async def answer(self, reply_to: str, message: Outbound) -> None:
        kind = KINDS.get(message.kind, "notice")
        files = "".join(f"\n[file {file.name}: {file.path}]" for file in message.files)
        final = message.final and reply_to in self.waiting
        await self._write({"kind": kind, "text": message.text + files, "turn": reply_to, "final": final})
        if final:
            self.waiting.discard(reply_to)
            if kind == "failed":
                self.failed += 1
            else:
                self.answered += 1
            self._end_if_done()

    async def _write(self, event: dict[str, Any]) -> None:
        """Returns when the system has it: who reads the connection sees it, whatever becomes of hermesd."""
        if self._gone:
            raise Gone("the connection has ended")
        done = asyncio.get_running_loop().create_future()
        self._writing.add(done)
        try:
            self.events.put_nowait(Shown(event, done))
            await done
        finally:
            self._writing.discard(done)

    def left(self) -> None:
        """The connection is over: what was not written is for somebody else."""
        self._gone = True
        for done in self._writing:
            if not done.done():
                done.set_exception(Gone("the connection has ended"))

    def stream(self, reply_to: str, text: str) -> None:
        self.events.put_nowait(Shown({"kind": "delta", "text": text, "turn": reply_to}))

    def notice(self, reply_to: str, text: str) -> None:
        self.events.put_nowait(Shown({"kind": "status", "text": text, "turn": reply_to}))

    def fail(self, message_id: str, text: str) -> None:
        """There will be no answer to this line."""
        if message_id in self.waiting:
            self.waiting.discard(message_id)
            self.failed += 1
            self.events.put_nowait(Shown({"kind": "failed", "text": text, "turn": message_id, "final": True}))

    def closed(self) -> None:
        self.closing = True
        self.events.put_nowait(None)

    def no_more_input(self) -> None:
        self._no_more = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._no_more and not self.waiting:
            self.events.put_nowait(None)
