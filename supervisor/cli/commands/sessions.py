"""``hermesctl sessions``: the conversations, also those without a worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import render, words
from ..daemon import Daemon
from ..options import Options, confirm, verb, with_global_options
from ..outcomes import report
from ..render import Column

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import OutcomesDocument, SessionDocument, SessionsDocument


@with_global_options
@click.group("sessions")
def command() -> None:
    """List, show and reset conversations."""


@verb("list", short_help="Every session.")
def list_(options: Options) -> None:
    """Every session, the last used first."""
    document = cast("SessionsDocument", Daemon(options).ask("sessions.list"))
    document["sessions"].sort(key=lambda row: row["last_turn_at"] or row["created_at"], reverse=True)
    if options.json:
        options.print_json(document)
        return
    now = datetime.now(UTC)
    rows = [
        (
            words.safe(row["session"]),
            words.safe(row["state"]),
            words.safe(row["worker"] or words.NOTHING),
            str(row["turns"]),
            str(row["queue"]),
            words.ago(words.seconds_since(row["last_turn_at"], now)),
            words.safe(row["user"] or words.NOTHING),
        )
        for row in document["sessions"]
    ]
    columns = (
        Column("SESSION", shrinks=True),
        Column("STATE", states=True),
        Column("WORKER"),
        Column("TURNS", right=True),
        Column("QUEUE", right=True),
        Column("LAST TURN", right=True),
        Column("USER", shrinks=True),
    )
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


@verb("show", short_help="One session and its last turns.")
@click.argument("session")
def show(options: Options, session: str) -> None:
    """One session and its last turns."""
    document = cast("SessionDocument", Daemon(options).ask("sessions.show", {"session": session}))
    if options.json:
        options.print_json(document)
        return
    width = render.terminal_width(sys.stdout)
    for line in page(document, datetime.now(UTC), options.paint, width):
        click.echo(line)


@verb("reset", short_help="Forget the conversation of sessions.")
@click.argument("sessions", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(options: Options, sessions: tuple[str, ...], yes: bool) -> int:
    """Forget the conversation of sessions: the next message begins a new one. More than one is asked about first."""
    if len(sessions) > 1:
        confirm(f"Reset {len(sessions)} sessions?", yes)
    document = cast("OutcomesDocument", Daemon(options).ask("sessions.reset", {"sessions": list(sessions)}))
    return report(options, document, "reset")


for _subcommand in (list_, show, reset):
    command.add_command(_subcommand)


def page(document: SessionDocument, now: datetime, paint: render.Paint, width: int | None) -> Iterator[str]:
    """The page of one session. Pure."""
    row = document["session"]
    worker = f", worker {words.safe(row['worker'])}" if row["worker"] else ""
    yield f"{words.safe(row['session'])} is {paint.state(words.safe(row['state']))}{worker}"
    yield f"Id          {words.safe(row['id'])}"
    yield f"Platform    {words.safe(row['platform'])}"
    yield f"User        {words.safe(row['user'] or words.NOTHING)}"
    yield f"Created     {words.ago(words.seconds_since(row['created_at'], now))}"
    yield f"Turns       {row['turns']}, {row['queue']} waiting"
    yield f"Transcript  {document['transcript_entries']} entries"
    if used := row.get("usage"):
        yield f"Tokens      {used['prompt_tokens']:,} in prompts, {used['completion_tokens']:,} in answers"
    yield f"Restarts    {document['restarts']}"
    if document.get("last_end"):
        yield f"Last end    {words.safe(document.get('last_end'))}"
    if document.get("evidence"):
        yield f"Evidence    {words.safe(document.get('evidence'))}"
    if not document["last_turns"]:
        return
    yield ""
    columns = (
        Column("TURN"),
        Column("STATE", states=True),
        Column("STARTED", right=True),
        Column("TOOK", right=True),
        Column("TEXT", shrinks=True),
        Column("ERROR", shrinks=True),
    )
    turns = [
        (
            words.safe(turn["turn"]),
            words.safe(turn["state"]),
            words.ago(words.seconds_since(turn["started_at"], now)),
            words.duration(turn["duration_s"]),
            words.safe(turn["text"]),
            words.safe(turn["error"]),
        )
        for turn in document["last_turns"]
    ]
    yield from render.table(columns, turns, paint, width)
