"""The table of workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from hermesd.supervisor.cli import psview
from hermesd.supervisor.cli.psview import Layout, headline, lines, matches, parse_filter, sort
from hermesd.supervisor.cli.render import Paint
from hermesd.supervisor.control.shapes import PsDocument

PLAIN = Paint(on=False)
Document = Callable[..., PsDocument]


def test_one_row_per_worker(ps_document: Document, now: datetime) -> None:
    title, busy, idle, waiting = lines(ps_document(), Layout(), now, PLAIN, None)
    # fmt: off
    assert title == ("SESSION                    WORKER  PID  STATE         AGE  IDLE  TURN  QUEUE  RESTARTS"
                     "  CPU%  CPU-TIME   MEM  MCP")
    assert busy == ("agent:main:telegram:dm:42  w3      501  busy           1h     -    7s      2         0"
                    "  98.7  12:07.30  120M  github,time(starting)")
    assert idle == ("agent:main:local:dm        w4      601  idle           1h   12s     -      0         0"
                    "   0.0   0:01.50   30M  -")
    assert waiting == ("agent:main:discord:dm:7    -         -  backoff(12s)    -     -     -      0         3"
                       "     -   0:00.00    0B  -")
    # fmt: on


def test_wide_adds_what_is_rarely_asked(ps_document: Document, now: datetime) -> None:
    title, busy, *_ = lines(ps_document(), Layout(wide=True), now, PLAIN, None)
    assert "TURN-ID" in title
    assert "PROCS" in title
    assert " t9 " in busy
    assert title.split()[:3] == ["SESSION", "PLATFORM", "USER"]
    assert busy.split()[:3] == ["agent:main:telegram:dm:42", "telegram", "ann"]


def test_a_tree_shows_what_runs_below_what(ps_document: Document, now: datetime) -> None:
    shown = lines(ps_document(), Layout(tree=True), now, PLAIN, None)
    name = len("   ├─ agent:main:telegram:dm:42")
    assert [line[:name].rstrip() for line in shown[1:4]] == [
        "hermesd",
        "└─ keeper",
        "   ├─ agent:main:telegram:dm:42",
    ]
    assert [line[:name].rstrip() for line in shown[4:10]] == [
        "   │  ├─ mcp github",
        "   │  │  └─ sh",
        "   │  │     └─ node",
        "   │  ├─ mcp time",
        "   │  └─ python",
        "   ├─ agent:main:local:dm",
    ]
    assert shown[6].endswith("/usr/bin/node /x/server.js --stdio")
    assert shown[4].endswith("npx -y server")


def test_without_a_keeper_the_workers_hang_below_hermesd(ps_document: Document, now: datetime) -> None:
    document = ps_document()
    document["keeper"] = None
    shown = lines(document, Layout(tree=True), now, PLAIN, None)
    assert shown[2].startswith("├─ agent:main:telegram:dm:42")


@pytest.mark.parametrize(
    ("key", "first"),
    [("session", "discord"), ("cpu", "telegram"), ("mem", "telegram"), ("restarts", "discord"), ("queue", "telegram"),
     ("idle", "local"), ("cpu-time", "telegram"), ("age", "local"), ("state", "discord")],
)  # fmt: skip
def test_sorting_puts_the_remarkable_one_first(ps_document: Document, key: str, first: str) -> None:
    assert first in sort(ps_document()["workers"], key)[0]["session"]


def test_every_sort_key_works_on_every_row(ps_document: Document) -> None:
    for key in psview.SORTS:
        assert len(sort(ps_document()["workers"], key)) == 3


def test_filters_are_patterns_and_all_must_fit(ps_document: Document) -> None:
    workers = ps_document()["workers"]

    def chosen(*texts: str) -> list[str]:
        filters = [parse_filter(text) for text in texts]
        return [row["state"] for row in workers if matches(row, filters)]

    assert chosen("session=*telegram*") == ["busy"]
    assert chosen("state=i*") == ["idle"]
    assert chosen("state=busy", "worker=w4") == []
    assert chosen("pid=") == ["backoff"]
    assert chosen("queue=2") == ["busy"]


@pytest.mark.parametrize("text", ["busy", "colour=red", "=x"])
def test_what_is_no_filter_is_named_with_the_keys_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="worker, session, pid"):
        parse_filter(text)


def test_the_headline_says_where_the_figures_come_from(ps_document: Document) -> None:
    document = ps_document()
    assert (
        headline(document, 2) == "2 workers, 1 session without one; CPU and memory from cgroup (exact, with the dead)"
    )
    document["figures"] = {**document["figures"], "source": "proc", "exact": False}
    document["workers"] = document["workers"][:1]
    assert headline(document, 3).startswith("1 of 3 workers; CPU and memory from a scan of /proc (the dead that nobody")


def test_a_silent_worker_says_for_how_long_beside_its_state(ps_document: Document, now: datetime) -> None:
    document = ps_document()
    busy = next(row for row in document["workers"] if row["state"] == "busy")
    busy["heard_s"] = 12.4
    assert "busy(" not in "\n".join(lines(document, Layout(), now, PLAIN, None))
    busy["silent_s"], busy["silent_cpu_s"] = 11.0, 10.9
    assert "busy(silent 12s)" in "\n".join(lines(document, Layout(), now, PLAIN, None))


def test_a_session_that_is_named_to_drive_the_terminal_cannot(ps_document: Document, now: datetime) -> None:
    document = ps_document()
    document["workers"][0]["session"] = "evil\x1b[2J"
    assert "\x1b" not in "".join(lines(document, Layout(tree=True), now, PLAIN, None))
