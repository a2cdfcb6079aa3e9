"""One chat over as many connections as it takes: a hermesd that goes away is waited for, and told again what was said.

Every line has an id of its own. What has not been answered when hermesd is back is sent again under the same id: its
journal knows which lines it has, so none is run twice and none is lost.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hermesd.supervisor.control.api import LIST_LIMIT
from hermesd.supervisor.control.errors import Code, Hangup, NotAllowed, Refused, Unreachable

from . import words

if TYPE_CHECKING:
    from hermesd.supervisor.control.client import Client, Stream

COMES_BACK = 10.0
"""Seconds beyond ``adopt_timeout`` for a hermesd to come back: its start, and what a service manager takes for one."""

LOOK_AGAIN = 0.2
"""Seconds between looks for it."""


class Attachment:
    """`next` is called by one thread, the rest by any other. ``connect`` raises `Unreachable`;
    ``tell`` says a line about the connection to the user; ``deadline`` is on the monotonic clock.
    """

    def __init__(
        self, connect: Callable[[], Client], name: str, tell: Callable[[str], None], deadline: float | None = None
    ) -> None:
        self._connect = connect
        self._name = name
        self._tell = tell
        self._deadline = deadline
        self._lock = threading.Lock()
        self._unanswered: dict[str, str] = {}
        self._ended = False
        self._saying = False
        self._stopping = False
        self._away = False
        self._given_up = threading.Event()
        self._known: frozenset[str] = frozenset()  # lines that were said before this connection began
        self._patience = 0.0
        self.failed = 0
        """Lines that had no answer."""
        self._opened: dict[str, Any] | None
        self._client, self._stream, self._opened = self._attach()

    def say(self, text: str) -> None:
        """Send a line, now or when hermesd is back."""
        line = uuid.uuid4().hex
        with self._lock:
            self._unanswered[line] = text
            self._saying = True  # as long as hermesd does not read, for one
            self._stream.send({"text": text, "id": line})
            self._saying = False

    def end(self, *, leave: bool) -> None:
        """Nothing more will be said. ``leave``: a hermesd that is away just now is not waited for any longer."""
        with self._lock:
            self._ended = True
            if leave and self._away:
                self._given_up.set()
            self._end_if_answered()

    def stop_turn(self) -> bool:
        """Have the running turn stopped. False: there is none, or it was asked for before, or it cannot be said."""
        if self._away or self._saying or self._stopping or not self._unanswered:
            return False
        self._stopping = True
        self.say("/stop")
        return True

    def next(self) -> dict[str, Any] | None:
        """The next event, the one of each new connection included; None when all is over.

        Raises `NoAnswer` past the deadline, and why there is no hermesd when none comes back in time.
        """
        if self._opened is not None:
            opened, self._opened = self._opened, None
            return opened
        try:
            event = self._stream.next(self._deadline)
        except Hangup as error:
            return self._return(error)
        if event is not None:
            self._take(event)
        elif (self._stream.result or {}).get("closing"):
            return self._return(Hangup("hermesd ended the chat"))
        return event

    def close(self) -> None:
        self._client.close()

    def _take(self, event: dict[str, Any]) -> None:
        if not event.get("final"):
            return
        with self._lock:
            if self._unanswered.pop(str(event.get("turn", "")), None) is not None:
                self.failed += event.get("kind") == "failed"
            self._stopping = self._stopping and bool(self._unanswered)
            self._end_if_answered()

    def _end_if_answered(self) -> None:
        if self._ended and not self._unanswered:
            self._stream.end_input()

    def _attach(self) -> tuple[Client, Stream, dict[str, Any]]:
        client = self._connect()
        try:
            waiting = list(self._unanswered)[-LIST_LIMIT:]
            self._known = frozenset(waiting)
            stream = client.stream("chat", {"name": self._name, "waiting": waiting})
            opened = stream.next()
            if opened is None:
                raise Hangup("hermesd ended the chat before it began")
        except BaseException:
            client.close()
            raise
        self._patience = COMES_BACK + opened["adopt_timeout_s"] if "adopt_timeout_s" in opened else 0.0
        return client, stream, opened

    def _return(self, error: Unreachable | Refused) -> dict[str, Any] | None:
        """Wait for hermesd, attach anew, and say again what has no answer. Gives the event of the new connection."""
        with self._lock:
            if self._ended and not self._unanswered:
                return None
            self._away = True
        if self._patience:
            self._tell(f"hermesd is gone; waiting up to {words.duration(self._patience)} for it to come back")
        until = time.monotonic() + self._patience
        while True:
            if time.monotonic() >= min(until, self._deadline or until) or self._given_up.wait(LOOK_AGAIN):
                if waiting := len(self._unanswered):
                    self._tell(f"{words.count(waiting, 'message')} without an answer yet")
                raise error
            try:
                client, stream, opened = self._attach()
                break
            except NotAllowed:
                raise
            except Refused as refused:
                if refused.code == Code.DENIED:
                    raise
                error = refused  # it ends or starts just now
            except Unreachable as unreachable:
                error = unreachable
        with self._lock:
            self._client.close()
            self._client, self._stream = client, stream
            for line, text in self._unanswered.items():
                # What was said while it began is new to it.
                stream.send({"text": text, "id": line, "again": line in self._known})
            self._away = False
            self._end_if_answered()
        return opened
