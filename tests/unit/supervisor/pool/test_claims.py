"""What a worker may speak of."""

from __future__ import annotations

import pytest

from hermesd.ipc.messages import Accept, Ask, Delta, Heartbeat, Logs, Message, Ready, Servers, Snapshot
from hermesd.supervisor.pool.claims import false_claim

SESSION = "agent:main:test:dm:1"
ASK = Ask("a", "theirs", "?", ("yes",), 1.0)


def claim(message: Message, others: set[str] | None = None) -> str:
    is_anothers = None if others is None else others.__contains__
    return false_claim(message, session=SESSION, given={"old", "mine"}, is_anothers=is_anothers)


@pytest.mark.parametrize(
    "message",
    [
        Accept("mine"), Delta("old", "late"), Heartbeat("mine", 0.0), Heartbeat("", 0.0), Ready(), Servers(()),
        Logs(()), Snapshot(SESSION, "s", True, turn="mine"), Snapshot(SESSION, "s", True), Snapshot("", "", False),
    ],
)  # fmt: skip
def test_its_own(message: Message) -> None:
    assert claim(message) == claim(message, {"theirs"}) == ""


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Accept("theirs"), "its accept is about turn 'theirs', which it was not given"),
        (Accept(""), "about turn ''"),
        (Heartbeat("theirs", 0.0), "its heartbeat is about turn 'theirs'"),
        (Snapshot("agent:main:test:dm:2", "s", True), "its snapshot is of session 'agent:main:test:dm:2'"),
        (Snapshot(SESSION, "s", True, turn="theirs"), "its snapshot is about turn 'theirs'"),
        (Snapshot(SESSION, "s", True, asks=(ASK,)), "its snapshot is about turn 'theirs'"),
    ],
)
def test_anothers(message: Message, why: str) -> None:
    assert why in claim(message)


def test_a_worker_of_an_earlier_hermesd_may_speak_of_turns_that_are_nobodys() -> None:
    assert claim(Accept("before"), {"theirs"}) == ""
    assert claim(Accept("before"), None)
    assert claim(Accept("theirs"), {"theirs"})
