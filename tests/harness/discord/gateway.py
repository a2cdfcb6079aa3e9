"""The gateway: sessions that are begun, kept alive, dropped, resumed and invalidated."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from .world import MESSAGE_CONTENT, Json, World

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
PRIVILEGED = MESSAGE_CONTENT | 1 << 1 | 1 << 8


@dataclass
class Session:
    """What one IDENTIFY began. It outlives its socket, until it is invalidated."""

    id: str
    intents: int
    socket: web.WebSocketResponse | None = None
    sent: list[Json] = field(default_factory=list)  # every event, for RESUME

    async def send(self, event: str, data: Json) -> None:
        frame = {"op": DISPATCH, "s": len(self.sent) + 1, "t": event, "d": data}
        self.sent.append(frame)
        if self.socket is not None and not self.socket.closed:
            try:
                await self.socket.send_json(frame)
            except ConnectionError:
                self.socket = None  # it is replayed when the session is resumed


class Gateway:
    """``address``: its own URL, told in READY."""

    def __init__(self, world: World):
        self.world = world
        self.address = ""
        self.heartbeat_ms = 41_250
        self.sessions: dict[str, Session] = {}
        self.identifies = 0
        self.resumes = 0
        self.heartbeats = 0
        self.refuse_sockets = False
        self.is_refused: Callable[[], bool] = lambda: False  # the same, asked for each socket
        self.close_next: list[int] = []  # codes that the next sockets are closed with, after their first frame
        self._sockets: set[web.WebSocketResponse] = set()

    # ---- what a test does --------------------------------------------------------------------------------------------

    async def dispatch(self, event: str, data: Json) -> None:
        """Tell every session, connected or not."""
        for session in [*self.sessions.values()]:  # one more may begin meanwhile
            seen = self.world.seen(data, session.intents) if event == "MESSAGE_CREATE" else data
            await session.send(event, seen)

    async def drop(self, code: int) -> None:
        """Close every socket."""
        for socket in [*self._sockets]:
            await socket.close(code=code)

    async def cut(self) -> None:
        """The network goes: sockets end without a word."""
        for socket in [*self._sockets]:
            if (transport := socket._req.transport if socket._req is not None else None) is not None:
                transport.abort()

    async def send_op(self, op: int, data: Any) -> None:
        for socket in [*self._sockets]:
            await socket.send_json({"op": op, "d": data, "s": None, "t": None})

    def forget_sessions(self) -> None:
        """Nothing can be resumed any more."""
        self.sessions.clear()

    @property
    def connected(self) -> int:
        return sum(1 for one in self.sessions.values() if one.socket is not None and not one.socket.closed)

    # ---- the other side ----------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_sockets or self.is_refused():
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        session: Session | None = None
        try:
            await self._frame(socket, HELLO, {"heartbeat_interval": self.heartbeat_ms, "_trace": []})
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                frame = json.loads(message.data)
                if frame["op"] == HEARTBEAT:
                    self.heartbeats += 1
                    await self._frame(socket, ACK, None)
                elif frame["op"] == IDENTIFY:
                    session = await self._identify(socket, frame["d"])
                elif frame["op"] == RESUME:
                    session = await self._resume(socket, frame["d"])
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._sockets.discard(socket)
            if session is not None and session.socket is socket:
                session.socket = None
        return socket

    async def _identify(self, socket: web.WebSocketResponse, asked: Json) -> Session | None:
        self.identifies += 1
        self.world.sessions_left -= 1
        if self.close_next:
            await socket.close(code=self.close_next.pop(0))
            return None
        if asked["token"] != self.world.token:
            await socket.close(code=4004)
            return None
        if asked["intents"] & PRIVILEGED & ~self.world.intents:
            await socket.close(code=4014)
            return None
        # An ordinary bot has one session at a time here: the one before it is left to be resumed, as on Discord.
        session = Session(secrets.token_hex(8), asked["intents"], socket)
        self.sessions[session.id] = session
        world = self.world
        ready = {
            "v": 10, "user": world.bot, "guilds": [{"id": world.guild, "unavailable": True}], "session_id": session.id,
            "resume_gateway_url": self.address, "application": {"id": world.application, "flags": 0},
            "private_channels": [], "_trace": [],
        }  # fmt: skip
        await session.send("READY", ready)
        await session.send("GUILD_CREATE", world.guild_payload())
        return session

    async def _resume(self, socket: web.WebSocketResponse, asked: Json) -> Session | None:
        session = self.sessions.get(asked["session_id"])
        if session is None or asked["token"] != self.world.token:
            await self._frame(socket, INVALID, False)
            return None
        self.resumes += 1
        missed = session.sent[asked["seq"] :]
        session.socket = socket
        for frame in missed:
            await socket.send_json(frame)
        await session.send("RESUMED", {"_trace": []})
        return session

    @staticmethod
    async def _frame(socket: web.WebSocketResponse, op: int, data: Any) -> None:
        await socket.send_json({"op": op, "d": data, "s": None, "t": None})
