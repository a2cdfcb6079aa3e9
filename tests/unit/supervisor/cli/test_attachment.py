"""What a chat says again to a hermesd that has come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hermesd.supervisor.cli import attachment
from hermesd.supervisor.cli.attachment import Attachment
from hermesd.supervisor.control.errors import Hangup


class Life:
    """One hermesd as its client sees it: it answers that the chat is open, and goes away."""

    def __init__(self, while_it_opens: Callable[[], None] = lambda: None) -> None:
        self.result = None
        self.waiting: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self._while_it_opens = while_it_opens
        self._opened = False

    def stream(self, verb: str, params: dict[str, Any]) -> Life:
        self.waiting = params["waiting"]
        return self

    def next(self, deadline: float | None = None) -> dict[str, Any]:
        if self._opened:
            raise Hangup("it is gone")
        self._opened = True
        self._while_it_opens()
        return {"kind": "open", "adopt_timeout_s": 3.0}

    def send(self, data: dict[str, Any]) -> None:
        self.heard.append(data)

    def close(self) -> None:
        """Nothing is held."""


def test_what_is_said_while_the_new_connection_begins_is_new_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """hermesd leaves out what is said "again" and was not waited for: it takes it for answered."""
    monkeypatch.setattr(attachment, "LOOK_AGAIN", 0.0)
    lives: Any = [Life(), Life(lambda: chat.say("meanwhile"))]
    first, second = lives
    chat = Attachment(lambda: lives.pop(0), "", lambda text: None)
    assert (chat.next() or {})["kind"] == "open"
    chat.say("before")
    assert (chat.next() or {})["kind"] == "open"
    assert [line["text"] for line in first.heard] == ["before", "meanwhile"]
    assert [(line["text"], line["again"]) for line in second.heard] == [("before", True), ("meanwhile", False)]
    assert second.waiting == [second.heard[0]["id"]]
