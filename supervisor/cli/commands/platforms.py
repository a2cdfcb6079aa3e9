"""``hermesctl platforms``: the ways in, and what a person may do to their connections."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import render, words
from ..daemon import Daemon
from ..exits import Exit
from ..options import Options, hint, verb, with_global_options
from ..render import Column

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import PlatformRow, PlatformsDocument


@with_global_options
@click.group("platforms")
def command() -> None:
    """List the platforms; pause, resume and reconnect them."""


@verb("list", short_help="Every platform and how it is connected.")
def list_(options: Options) -> None:
    """Every platform that is configured, and how it is connected. LAST RECEIVED is the last sign of life that it gave,
    be it a message or an empty answer.
    """
    document = cast("PlatformsDocument", Daemon(options).ask("platforms.list"))
    if options.json:
        options.print_json(document)
        return
    now = datetime.now(UTC)
    columns = (
        Column("PLATFORM"),
        Column("STATE", states=True),
        Column("FOR", right=True),
        Column("LAST RECEIVED", right=True),
        Column("NEXT TRY", right=True),
        Column("TRIES", right=True),
        Column("DETAIL", shrinks=True),
    )
    rows = [_cells(row, now) for row in document["platforms"]]
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)
    for row in document["platforms"]:
        if row["fix"]:
            hint(f"{words.safe(row['name'])}: {words.safe(row['fix'])}")


def _cells(row: PlatformRow, now: datetime) -> tuple[str, ...]:
    return (
        words.safe(row["name"]),
        words.safe(row["state"]),
        words.short_duration(words.seconds_since(row["since"], now)),
        words.ago(words.seconds_since(row["received_at"], now)),
        _until(row["next_try_at"], now),
        str(row["tries"] or words.NOTHING),
        words.safe(row["detail"]),
    )


def _until(moment: str | None, now: datetime) -> str:
    passed = words.seconds_since(moment, now)
    return words.NOTHING if passed is None else f"in {words.short_duration(max(0.0, -passed))}"


@verb("pause", short_help="Disconnect a platform.")
@click.argument("name")
def pause(options: Options, name: str) -> int:
    """Disconnect the platform NAME until it is resumed, also over a restart. Answers for it wait in the outbox."""
    return _order(options, "platforms.pause", name)


@verb("resume", short_help="Connect a paused platform again.")
@click.argument("name")
def resume(options: Options, name: str) -> int:
    """Connect the platform NAME again, at once also if it waits for its next try."""
    return _order(options, "platforms.resume", name)


@verb("reconnect", short_help="Connect a platform anew.")
@click.argument("name")
def reconnect(options: Options, name: str) -> int:
    """Disconnect the platform NAME and connect it anew, now."""
    return _order(options, "platforms.reconnect", name)


def _order(options: Options, request: str, name: str) -> int:
    document = cast("PlatformsDocument", Daemon(options).ask(request, {"name": name}))
    (row,) = document["platforms"]
    if options.json:
        options.print_json(document)
    else:
        detail = f": {words.safe(row['detail'])}" if row["detail"] else ""
        click.echo(f"{words.safe(row['name'])} is {options.paint.state(row['state'])}{detail}")
    if row["fix"]:
        hint(f"  fix: {words.safe(row['fix'])}")
    wanted = "paused" if request == "platforms.pause" else "online"
    return Exit.DONE if row["state"] in (wanted, "connecting") else Exit.FAILED


for _subcommand in (list_, pause, resume, reconnect):
    command.add_command(_subcommand)
