"""The fake platform's socket: one JSON object a line in, one JSON object a line out (`ScriptSocket.OPERATIONS`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hermesd.adapters.errors import AdapterError, NotAccepted

if TYPE_CHECKING:
    from hermesd.adapters.fake import FakeAdapter

LINE_LIMIT = 1 << 20

log = logging.getLogger(__name__)


class ScriptSocket:
    """Where a test of an installed hermesd plays platform and people. Owned by the adapter, from start to stop."""

    def __init__(self, fake: FakeAdapter, path: str):
        self._fake = fake
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises `AdapterError` when nobody can listen there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=LINE_LIMIT)
            os.chmod(self._path, 0o600)
        except OSError as error:
            raise AdapterError(f"cannot listen on {self._path}: {error.strerror or error}") from error

    async def close(self) -> None:
        """Let nobody in any more, and end what is open."""
        if self._server is None:
            return
        self._server.close()
        connections = [*self._connections]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

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
            operation = self.OPERATIONS[request.pop("op")]
        except (ValueError, KeyError, AttributeError) as error:
            return {"error": f"cannot read {line!r}: {error!r}; operations: {', '.join(self.OPERATIONS)}"}
        try:
            return await operation(self, **request)
        except NotAccepted as error:
            return {"accepted": False, "reason": error.reason, "code": error.code}
        except (TypeError, ValueError, KeyError, AdapterError) as error:
            return {"error": str(error)}

    async def _op_say(self, text: str, **where: Any) -> dict[str, Any]:
        where.setdefault("message_id", self._fake.next_id())
        new = await self._fake.say(text, **where)
        return {"accepted": True, "new": new, "message_id": where["message_id"]}

    async def _op_redeliver(self, **which: Any) -> dict[str, Any]:
        return {"accepted": True, "new": await self._fake.redeliver(**which)}

    async def _op_transcript(self, **which: Any) -> dict[str, Any]:
        return {"messages": [asdict(shown) for shown in self._fake.transcript(**which)]}

    async def _op_unconfirmed(self) -> dict[str, Any]:
        return {"message_ids": self._fake.unconfirmed()}

    async def _op_cut(self, count: int = 1, **how: Any) -> dict[str, Any]:
        self._fake.cut(count, **how)
        return {"ok": True}

    async def _op_disconnect(self, seconds: float, **how: Any) -> dict[str, Any]:
        self._fake.disconnect(seconds, **how)
        return {"ok": True}

    async def _op_press(self, chat: str, message_id: str, choice: str, **who: Any) -> dict[str, Any]:
        return await self._fake.press(chat, message_id, choice, **who)

    async def _op_lock(self, message_id: str) -> dict[str, Any]:
        self._fake.lock(message_id)
        return {"ok": True}

    async def _op_calls(self) -> dict[str, Any]:
        return {"calls": [asdict(call) for call in self._fake.calls], "floods": self._fake.floods}

    async def _op_signs(self) -> dict[str, Any]:
        return {
            "signs": [{"chat": chat, "message_id": one, "sign": sign} for (chat, one), sign in self._fake.signs.items()]
        }

    async def _op_menu(self) -> dict[str, Any]:
        return {"menu": [asdict(entry) for entry in self._fake.menu]}

    async def _op_hang_up(self, chat: str, message_id: str) -> dict[str, Any]:
        self._fake.hang_up(chat, message_id)
        return {"ok": True}

    async def _op_close_chat(self, chat: str) -> dict[str, Any]:
        self._fake.close_chat(chat)
        return {"ok": True}

    async def _op_wait(self, count: int, timeout: float = 30.0, **which: Any) -> dict[str, Any]:
        met = await self._fake.wait(count, timeout, **which)
        return {"met": met, "count": len(self._fake.transcript())}

    # Parameters, then what comes back. Any operation may return {"error": TEXT} instead.
    OPERATIONS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
        # accepted, new, message_id; or accepted (false), reason, code
        # text, user, chat, message_id, chat_type, thread, user_name, trusted, files, album, reply_to, reply_text
        "say": _op_say,
        "redeliver": _op_redeliver,  # confirmed -> accepted, new (how many)
        "transcript": _op_transcript,  # chat, reply_to -> messages
        "unconfirmed": _op_unconfirmed,  # -> message_ids
        "cut": _op_cut,  # count, error, after, delivered, call
        "press": _op_press,  # chat, message_id, choice, user -> taken, text
        "lock": _op_lock,  # message_id
        "calls": _op_calls,  # -> calls, floods
        "signs": _op_signs,  # -> signs
        "menu": _op_menu,  # -> menu
        "disconnect": _op_disconnect,  # seconds, confirmed
        "hang_up": _op_hang_up,  # chat, message_id
        "close_chat": _op_close_chat,  # chat
        "wait": _op_wait,  # count, timeout, chat, reply_to, final, containing -> met, count (of all messages)
    }
