"""The client of the fake platform's socket: a test speaks as its users and reads what they were shown."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 10.0


class Fake:
    """``path``: the socket named by ``platforms.fake.extra.socket``.

    Each thread gets a connection of its own, because hermesd answers the requests of one in turn and a `wait` would
    hold up everybody else's.
    """

    def __init__(self, path: Path):
        self.path = path
        self._local = threading.local()
        self._connections: list[socket.socket] = []

    def ask(self, op: str, **parameters: Any) -> dict[str, Any]:
        """One request, one answer. Raises AssertionError with what the platform complains about."""
        stream = getattr(self._local, "stream", None)
        if stream is None:
            connection = socket.socket(socket.AF_UNIX)
            self._connections.append(connection)
            connection.settimeout(CONNECT_SECONDS)
            try:
                connection.connect(str(self.path))
            except OSError:
                self._hang_up(connection)
                raise
            connection.settimeout(None)
            self._local.connection = connection
            stream = self._local.stream = connection.makefile("rwb")
        try:
            stream.write(json.dumps({"op": op, **parameters}).encode() + b"\n")
            stream.flush()
            line = stream.readline()
            if not line:
                raise ConnectionResetError(f"the fake platform went away during {op}")
        except OSError:
            self._local.stream = None
            self._hang_up(self._local.connection)
            raise
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{op} {parameters}: {answer['error']}")
        return answer

    def _hang_up(self, connection: socket.socket) -> None:
        self._connections.remove(connection)
        connection.close()

    def say(self, text: str, *, chat: str, user: str = "user", trusted: bool = True) -> str:
        """A person writes. Returns the message's id once hermesd has accepted it."""
        answer = self.ask("say", text=text, chat=chat, user=user, trusted=trusted)
        assert answer["accepted"], answer
        return str(answer["message_id"])

    def insist(self, text: str, *, chat: str, message_id: str, seconds: float = 60.0) -> None:
        """A person writes until hermesd has accepted it, over its deaths and broken connections; always the same id."""
        until = time.monotonic() + seconds
        while True:
            try:
                answer = self.ask("say", text=text, chat=chat, message_id=message_id, trusted=True)
            except OSError as error:
                answer = {"accepted": False, "reason": str(error)}
            if answer["accepted"]:
                return
            assert time.monotonic() < until, f"{message_id} was not accepted within {seconds} s: {answer['reason']}"
            time.sleep(0.02)

    def shown(self, *, chat: str | None = None, reply_to: str | None = None) -> list[dict[str, Any]]:
        """What people were shown, oldest first."""
        messages: list[dict[str, Any]] = self.ask("transcript", chat=chat, reply_to=reply_to)["messages"]
        return messages

    def final(self, message_id: str, *, chat: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the final answer to a message."""
        if not self.ask("wait", count=1, timeout=seconds, chat=chat, reply_to=message_id, final=True)["met"]:
            raise AssertionError(
                f"no answer to {message_id} in chat {chat} within {seconds} s; shown: "
                f"{[message['text'] for message in self.shown(chat=chat)]}"
            )
        return next(message for message in self.shown(chat=chat, reply_to=message_id) if message["final"])

    def talk(self, text: str, *, chat: str, seconds: float = 60.0) -> str:
        """Say something and return the text of its final answer."""
        return str(self.final(self.say(text, chat=chat), chat=chat, seconds=seconds)["text"])

    def wait_shown(self, text: str, *, chat: str, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a message that holds ``text`` was shown in a chat."""
        until = time.monotonic() + seconds
        while True:
            messages = self.shown(chat=chat)
            for message in messages:
                if text in message["text"]:
                    return message
            left = until - time.monotonic()
            # An earlier message may be edited until it does.
            if left <= 0 or not self.ask("wait", count=1, timeout=left, chat=chat, containing=text)["met"]:
                raise AssertionError(f"{text!r} was not shown in {chat} within {seconds} s, but {messages}")

    def close(self) -> None:
        """Hang up; the next request connects again."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()
