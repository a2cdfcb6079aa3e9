"""A platform for hermesd in one file: people connect with netcat, say who they are, and write lines.

    $ nc 127.0.0.1 7777
    anna
    1 hello
    ok 1
    > 1 You said: hello ...

A line is a number of the person's own and a text. "ok" with the number means that hermesd has the line on its disk: a
client that got none says it again after it has connected anew, with the same number, and nothing is answered twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from hermesd.adapters.contract import (
    AdapterSettings,
    Capabilities,
    Cursor,
    Inbound,
    Outbound,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Retry, StartLater
from hermesd.adapters.text import chat_name_problem, clean

LINE_LIMIT = 64 * 1024


class NetcatAdapter:
    """``extra.port``: where to listen, on this machine only."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        try:
            self._port = int(settings.extra.get("port", 7777))
        except (TypeError, ValueError):
            raise AdapterError(f"cannot use extra.port of {self.name}: it is no number", fix="port: 7777") from None
        self._known: set[str] = set()  # who has ever been here
        self._people: dict[str, asyncio.StreamWriter] = {}  # who is here now
        self._serving: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._receiver: Receiver | None = None
        self._state = State("stopped")

    # ---- the required six --------------------------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        # hermesd keeps small values for its adapters: this one's live on over a restart.
        self._known = set(await receiver.cursors(self.name))
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=LINE_LIMIT)
        except OSError as error:
            # What may pass by itself is StartLater: hermesd tries again, and everything else goes on meanwhile.
            why = f"cannot listen on port {self._port}: {error.strerror}"
            raise StartLater(why, fix="extra.port: another") from error
        self._state = State("online", since=time.time())

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._state = State("stopped", since=time.time())

    async def send(self, target: Target, message: Outbound) -> Sent:
        if target.chat_id not in self._known:
            raise Gone(f"cannot send to {target.chat_id}: nobody of this name was ever here")
        writer = self._people.get(target.chat_id)
        if writer is None:
            # People come back: the message waits in the outbox, and so do those behind it in this chat.
            raise Retry(f"{target.chat_id} is not connected", after=1.0)
        for line in message.text.splitlines() or [""]:
            writer.write(f"> {target.reply_to} {line}\n".encode())
        try:
            await writer.drain()
        except ConnectionError as error:
            raise Retry(f"{target.chat_id} has just hung up", after=1.0) from error
        return Sent(message.key)

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(max_length=4000)

    def state(self) -> State:
        return self._state

    def describe(self) -> dict[str, Any]:
        return {"address": f"127.0.0.1:{self._port}", "people": len(self._people)}

    # ---- the platform ------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._talk(reader, writer)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._receiver is not None
        # A line beyond the limit is a ValueError of readline: its connection ends, nobody else's.
        with contextlib.suppress(ConnectionError, ValueError):
            name = (await reader.readline()).decode(errors="replace").strip()
            if problem := chat_name_problem(name):
                writer.write(f"no: this name cannot be used: {problem}\n".encode())
                return
            await self._receiver.keep_cursor(self.name, Cursor(name, "known"))
            self._known.add(name)
            self._people[name] = writer
            try:
                while line := await reader.readline():
                    await self._take(name, line.decode(errors="replace").strip(), writer)
            finally:
                if self._people.get(name) is writer:
                    del self._people[name]

    async def _take(self, name: str, line: str, writer: asyncio.StreamWriter) -> None:
        number, _, text = line.partition(" ")
        if not number.isdigit():
            writer.write(b"no: begin each line with a number of your own\n")
            return
        assert self._receiver is not None
        self._state = State("online", since=self._state.since, received_at=time.time())
        try:
            # On disk when this returns; only then the platform is told that we have it.
            await self._receiver.receive(Inbound(self.name, name, number, user_id=name, text=clean(text)))
        except NotAccepted as error:
            writer.write(f"no {number}: {error.reason}\n".encode())
        else:
            writer.write(f"ok {number}\n".encode())
