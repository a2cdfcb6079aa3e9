"""``hermesctl status``: one look answers is it up, since when, and what did it say last."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import render, words
from ..daemon import Daemon, Sight
from ..exits import Exit
from ..options import Options, hint, verb
from ..render import Column, Paint

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import LogLine, StatusDocument, WorkerCounts

_LABEL = 12  # columns of the labels at the left


@verb("status", short_help="Whether hermesd runs.")
@click.option("--short", is_flag=True, help="One line, for a prompt.")
@click.option("--strict", is_flag=True, help="Exit 8 when it is degraded or has warnings.")
def command(options: Options, short: bool, strict: bool) -> int:
    """Whether hermesd runs, since when, and what is wrong.

    Exit status: 0 running (also degraded, see --strict), 1 dead with its PID file left, 3 not running, 4 running but
    not answering.
    """
    daemon = Daemon(options)
    answer = daemon.status()
    if isinstance(answer, Sight):
        return _absent(options, daemon, answer, short)
    document = cast("StatusDocument", answer)
    for finding in document["warnings"]:
        finding["fix"] = options.suggest(finding["fix"])
    now = datetime.now(UTC)
    if options.json:
        options.print_json(document)
    elif short:
        click.echo(short_line(document, now))
    else:
        width = render.terminal_width(sys.stdout)
        for line in full(document, now, options.paint, width):
            click.echo(options.suggest(line) if line == LOG_TITLE else line)
    return Exit.PARTLY if strict and (document["state"] == "degraded" or document["warnings"]) else Exit.DONE


def _absent(options: Options, daemon: Daemon, sight: Sight, short: bool) -> int:
    if options.json:
        options.print_json(
            {
                "schema": 1,
                "state": sight.state,
                "home": str(daemon.home),
                "pid": sight.pid,
                "version": sight.version,
                "process_state": sight.process_state,
                "detail": sight.detail,
            }
        )
    elif short:
        click.echo(sight.state)
    else:
        click.echo(f"hermesd is {options.paint.state(sight.state)}: {sight.detail}")
        click.echo(f"{'Home':<{_LABEL}}{daemon.home}")
    if sight.fix and not short:
        hint(f"  fix: {sight.fix}")
    return sight.status


def short_line(document: StatusDocument, now: datetime) -> str:
    draining = words.seconds_since(document.get("draining_since"), now)
    lasted = document["uptime_s"] if draining is None else draining
    parts = [f"{document['state']} {words.duration(lasted)}", _workers(document["workers"])]
    if document["warnings"]:
        parts.append(words.count(len(document["warnings"]), "warning"))
    return ", ".join(parts)


def full(document: StatusDocument, now: datetime, paint: Paint, width: int | None) -> Iterator[str]:
    """The whole page, line by line. Pure."""
    workers, queues, cpu = document["workers"], document["queues"], document["cpu"]
    containment, journal = document["containment"], document["journal"]
    since = f"since {_local(document['started_at'])} ({words.duration(document['uptime_s'])})"
    if (draining := words.seconds_since(document.get("draining_since"), now)) is not None:
        since = f"since {_local(document['draining_since'])} ({words.duration(draining)}), running {since}"
    yield (
        f"hermesd is {paint.state(document['state'])} {since},"
        f" pid {document['pid']}, version {document['version']}, instance {document['instance']}"
    )
    yield _line("Home", document["home"])
    yield _line(
        "Workers",
        f"{_workers(workers)}; at most {workers['max']}" + _resting(workers["by_state"]),
    )
    yield _line(
        "Turns",
        f"{workers['running_turns']} of {workers['max_turns']} running, {workers['waiting_turns']} waiting",
    )
    oldest = f", oldest {words.duration(queues['oldest_s'])}" if queues["oldest_s"] is not None else ""
    yield _line("Queues", f"inbox {queues['inbox']}, outbox {queues['outbox']}{oldest}, dead letters {queues['dead']}")
    yield _line("CPU", f"{words.percent(cpu['percent'])} % now, {words.cpu_time(cpu['seconds'])} in all")
    yield _line("Memory", words.size(document["memory_bytes"]))
    yield _line("Event loop", f"{document['loop']['lag_ms_p99']:.1f} ms late (p99)")
    yield _line("Containment", containment["name"])
    for reason in containment["refused"]:
        yield _line("", f"not {words.safe(reason)}")
    reason = f": {words.safe(journal['reason'])}" if journal["reason"] else ""
    yield _line("Journal", paint.state(journal["state"]) + reason)
    if document["drain"]["everything"]:
        yield _line("Draining", "no new turn begins; hermesctl undrain lifts that")
    for key in document["drain"]["sessions"]:
        yield _line("Draining", f"no new turn begins in {words.safe(key)}; hermesctl undrain --session lifts that")
    yield from _platforms(document, now, paint, width)
    yield from _warnings(document, paint)
    yield from _log(document, paint)


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _local(text: str) -> str:
    try:
        return words.parse_time(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return words.safe(text)


LOG_TITLE = "Last warnings in the log (hermesctl logs):"

RESTING = ("hibernated", "backoff", "quarantined")
"""The states of a session without a process."""


def _workers(workers: WorkerCounts) -> str:
    states = _states({state: number for state, number in workers["by_state"].items() if state not in RESTING})
    return words.count(workers["total"], "worker") + (f" ({states})" if states else "")


def _resting(counts: dict[str, int]) -> str:
    states = _states({state: number for state, number in counts.items() if state in RESTING})
    return f"; without one: {states}" if states else ""


def _states(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {words.safe(state)}" for state, number in counts.items() if number)


def _platforms(document: StatusDocument, now: datetime, paint: Paint, width: int | None) -> Iterator[str]:
    yield ""
    if not document["platforms"]:
        yield "No platforms: only local chats reach this hermesd."
        return
    rows = [
        (
            words.safe(platform["name"]),
            words.safe(platform["state"]),
            words.short_duration(words.seconds_since(platform["since"], now)),
            words.ago(words.seconds_since(platform["received_at"], now)),
            words.safe(platform["detail"]),
        )
        for platform in document["platforms"]
    ]
    columns = (
        Column("PLATFORM"),
        Column("STATE", states=True),
        Column("FOR", right=True),
        Column("LAST MESSAGE", right=True),
        Column("DETAIL", shrinks=True),
    )
    yield from render.table(columns, rows, paint, width)


def _warnings(document: StatusDocument, paint: Paint) -> Iterator[str]:
    if document["warnings"]:
        yield ""
    for finding in document["warnings"]:
        yield f"{paint.state(words.safe(finding['severity']))}: {words.safe(finding['message'])}"
        if finding["fix"]:
            yield f"  fix: {words.safe(finding['fix'])}"


def _log(document: StatusDocument, paint: Paint) -> Iterator[str]:
    from ..logview import text_line

    if document["log_tail"]:
        yield ""
        yield LOG_TITLE
    for line in document["log_tail"]:
        yield f"  {text_line({**line, 'msg': _in_one_line(line)}, paint)}"


def _in_one_line(line: LogLine) -> str:
    """A record's first line, and of a traceback the last one, which says what was raised."""
    first, *rest = line.get("msg", "").splitlines() or [""]
    last = rest[-1].strip() if any(text.startswith("Traceback (most recent call last)") for text in rest) else ""
    said = last.partition(": ")[2] or last
    return f"{first}: {last}" if said and said not in first else first
