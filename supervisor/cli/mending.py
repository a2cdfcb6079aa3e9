"""What an earlier hermesd has left: how ``hermesctl doctor`` finds and shows it, and ``doctor --fix``.

With a running hermesd that one looks and mends, since it knows what is its own. Without one everything of the instance
is a leftover, and is mended under the instance's lock, so that no hermesd can start meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import click

from hermesd.supervisor.control.errors import Code
from hermesd.supervisor.findings import counted, of_leftovers

from . import words
from .exits import CommandError, Exit
from .options import Options, confirm, hint

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import Finding, FixDocument, LeftoverRow
    from hermesd.supervisor.instance.paths import Paths

    from .daemon import Daemon


def look(paths: Paths) -> list[LeftoverRow]:
    """What is left; no hermesd runs."""
    from hermesd.supervisor.pool import leftovers

    return leftovers.rows(leftovers.look(paths))


def finding(paths: Paths, rows: list[LeftoverRow]) -> Finding:
    """The line of ``doctor``; no hermesd runs, but a keeper may wait for one."""
    found = of_leftovers(rows)
    if waiting := _waiting_keeper(paths, rows):
        found["message"] += f"; {waiting}"
        found["fix"] = "hermesd --daemon, which takes them over, or hermesctl doctor --fix, which ends them"
    return found


def lines(rows: list[LeftoverRow]) -> Iterator[str]:
    """One line for each."""
    for row in rows:
        reason = f": {words.safe(row['reason'])}" if "reason" in row else ""
        if row["kind"] == "process":
            age, size = words.duration(row["age_s"]), words.size(row["memory_bytes"])
            yield (
                f"process {row['pid']}, {age} old, {size}, ours by {row['proof']}{reason}: "
                f"{words.safe(row['command']) or '?'}"
            )
        else:
            yield f"{row['kind']} {words.safe(row['path'])}{reason}"


def fix(options: Options, daemon: Daemon, yes: bool) -> int:
    """``doctor --fix``. 0: nothing is left, 1: something is."""
    runs = daemon.describe().state == "running"
    rows: list[LeftoverRow] = daemon.ask("doctor").get("leftovers", []) if runs else look(daemon.paths)
    document: FixDocument = {"schema": 1, "mended": [], "left": []}
    if rows:
        _ask(daemon.paths, rows, yes)
        document = _mend_beside(daemon) if runs else _mend(daemon.paths)
    if options.json:
        options.print_json(document)
    else:
        _print(document)
    return Exit.FAILED if document["left"] else Exit.DONE


def _ask(paths: Paths, rows: list[LeftoverRow], yes: bool) -> None:
    """Only where something is killed; what lies about is nobody's any more."""
    processes = [row for row in rows if row["kind"] == "process"]
    if not processes or yes:
        return
    for line in lines(rows):
        hint(line)
    if waiting := _waiting_keeper(paths, rows):
        hint(waiting)
    confirm(f"Kill {counted(processes)}?", yes)


def _mend_beside(daemon: Daemon) -> FixDocument:
    with daemon.stream("doctor.fix") as stream:
        for _ in stream:
            continue
        return cast("FixDocument", stream.result)


def _mend(paths: Paths) -> FixDocument:
    from hermesd.supervisor.instance import lock
    from hermesd.supervisor.instance.errors import AlreadyRunning, HomeUnusable
    from hermesd.supervisor.pool import leftovers
    from hermesd.supervisor.pool.census import is_contained

    if is_contained(os.getpid(), (), paths.instance):
        message = "cannot mend: this hermesctl was itself started by an agent of this home"
        raise CommandError(Exit.NOT_ALLOWED, Code.DENIED, message, "run it from a shell of your own")
    try:
        paths.prepare()
        held = lock.acquire(paths)
    except AlreadyRunning as error:
        message = f"cannot mend: a hermesd has started meanwhile: {error}"
        raise CommandError(Exit.TRY_AGAIN, Code.BUSY, message, "try again") from error
    except HomeUnusable as error:
        raise CommandError(Exit.NOT_ALLOWED, Code.DENIED, f"cannot mend: {error}") from error
    try:
        mended = leftovers.mend(paths)
        return {"schema": 1, "mended": leftovers.rows(mended.done), "left": leftovers.rows(mended.left, why=True)}
    finally:
        held.release()


def _print(document: FixDocument) -> None:
    for row in document["mended"]:
        done = "killed" if row["kind"] == "process" else "removed"
        click.echo(f"{done} {next(lines([row]))}")
    for row in document["left"]:
        click.echo(f"still there: {next(lines([row]))}", err=True)
    if not document["left"]:
        click.echo("nothing is left of an earlier hermesd")


def _waiting_keeper(paths: Paths, rows: list[LeftoverRow]) -> str:
    """A keeper among what runs that would give its workers to the next hermesd; "" for none."""
    from hermesd.supervisor.instance import keepers

    running = {row["pid"] for row in rows if row["kind"] == "process"}
    waiting = [str(record.pid) for record in keepers.read(paths.keepers) if record.pid in running and record.is_alive()]
    if not waiting:
        return ""
    return f"keeper {', '.join(waiting)} waits for the next hermesd, to which it would give its workers"
