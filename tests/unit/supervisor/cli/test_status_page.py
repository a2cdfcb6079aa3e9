"""The page of ``hermesctl status``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from hermesd.supervisor.cli.commands.status import full, short_line
from hermesd.supervisor.cli.render import Paint
from hermesd.supervisor.control.shapes import StatusDocument

PLAIN = Paint(on=False)
Document = Callable[..., StatusDocument]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_one_look_answers_whether_it_is_up_and_what_is_wrong(status_document: Document, now: datetime) -> None:
    document = status_document(
        state="degraded",
        warnings=[{"id": "journal", "severity": "error", "message": "the disk is full", "fix": "free it"}],
        log_tail=[
            {"ts": "2026-11-22T18:59:00Z", "level": "ERROR", "logger": "hermesd.journal", "msg": "cannot write"},
        ],
    )
    assert list(full(document, now, PLAIN, None)) == [
        "hermesd is degraded since 2026-11-20 15:00:00 (2d 4h), pid 300, version 0.1.0, instance 0123456789ab",
        "Home        /home/ann/.hermes",
        "Workers     3 workers (1 busy, 2 idle); at most 64; without one: 4 hibernated",
        "Turns       1 of 8 running, 0 waiting",
        "Queues      inbox 1, outbox 0, oldest 2s, dead letters 0",
        "CPU         12.3 % now, 12:07.30 in all",
        "Memory      300M",
        "Event loop  0.3 ms late (p99)",
        "Containment subreaper",
        "            not cgroup: cannot make /x: Permission denied",
        "Journal     ok",
        "",
        "PLATFORM    STATE   FOR  LAST MESSAGE  DETAIL",
        "api_server  online   2d        3m ago  127.0.0.1:8642",
        "",
        "error: the disk is full",
        "  fix: free it",
        "",
        "Last warnings in the log (hermesctl logs):",
        "  2026-11-22 18:59:00 ERROR    hermesd.journal: cannot write",
    ]


def test_a_hermesd_without_platforms_says_so(status_document: Document, now: datetime) -> None:
    assert "No platforms: only local chats reach this hermesd." in list(
        full(status_document(platforms=[]), now, PLAIN, None)
    )


def test_the_short_form_is_one_line(status_document: Document, now: datetime) -> None:
    warning = {"id": "x", "severity": "warning", "message": "", "fix": ""}
    assert short_line(status_document(), now) == "running 2d 4h, 3 workers (1 busy, 2 idle)"
    assert short_line(status_document(warnings=[warning]), now).endswith(", 1 warning")


def test_a_drain_has_a_time_of_its_own(status_document: Document, now: datetime) -> None:
    document = status_document(state="draining", draining_since="2026-11-22T18:59:20Z")
    head = next(full(document, now, PLAIN, None))
    assert head.startswith(
        "hermesd is draining since 2026-11-22 18:59:20 (40s), running since 2026-11-20 15:00:00 (2d 4h), pid 300,"
    )
    assert short_line(document, now).startswith("draining 40s, ")


def test_a_traceback_in_the_log_is_one_line_of_the_page(status_document: Document, now: datetime) -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n'
    messages = [
        f"turn t1 failed\n{trace}ValueError: no such thing\n",
        f"cannot load agent 'a:b': no a\n{trace}hermesd.workers.errors.NoAgent: cannot load agent 'a:b': no a",
        "two lines\nand no traceback",
        "",
    ]
    log = [{"ts": "2026-11-22T18:59:00Z", "level": "ERROR", "logger": "w", "msg": message} for message in messages]
    assert [line.partition(" w: ")[2] for line in list(full(status_document(log_tail=log), now, PLAIN, None))[-4:]] == [
        "turn t1 failed: ValueError: no such thing",
        "cannot load agent 'a:b': no a",
        "two lines",
        "",
    ]
