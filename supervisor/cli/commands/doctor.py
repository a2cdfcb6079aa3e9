"""``hermesctl doctor``: what is wrong or could be better, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hermesd.supervisor.findings import finding

from .. import checkup, mending, words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, usage, verb

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import DoctorDocument, Finding, LeftoverRow

SEVERITIES = ("ok", "warning", "error")


@verb("doctor", short_help="Look for what is wrong.")
@click.option("--only", multiple=True, metavar="ID", help="Only findings with this id.")
@click.option("--skip", multiple=True, metavar="ID", help="No findings with this id.")
@click.option("--fix", is_flag=True, help="End and remove what an earlier hermesd has left, and say what was done.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
def command(options: Options, only: tuple[str, ...], skip: tuple[str, ...], fix: bool, yes: bool) -> int:
    """Look for what is wrong or could be better, and how to mend it. Works with hermesd running and stopped.

    Exit status: 0 all is well, 1 warnings, 2 errors. Of --fix: 0 nothing is left of an earlier hermesd, 1 something is.
    """
    daemon = Daemon(options)
    if fix:
        if only or skip:
            usage("--fix takes neither --only nor --skip: it is about what an earlier hermesd has left")
        return mending.fix(options, daemon, yes)
    document: DoctorDocument = {"schema": 1, "findings": []}
    for found in _findings(daemon, document):
        if (only and found["id"] not in only) or found["id"] in skip:
            continue
        found["fix"] = options.suggest(found["fix"])
        document["findings"].append(found)
        if not options.json:
            _print(options, found, document.get("leftovers", []))
    if options.json:
        options.print_json(document)
    return max((SEVERITIES.index(found["severity"]) for found in document["findings"]), default=0)


def _findings(daemon: Daemon, document: DoctorDocument) -> Iterator[Finding]:
    """``document`` gets what is not said in findings."""
    standing = daemon.describe()
    yield from checkup.of_home(daemon.paths)
    yield from checkup.of_pid_file(daemon.paths, standing)
    if standing.state == "running":
        yield from _live(daemon, document)
    else:
        yield from checkup.of_containment(daemon.paths.instance)
        yield from checkup.of_machine(daemon.home)
        document["leftovers"] = mending.look(daemon.paths)
        yield mending.finding(daemon.paths, document["leftovers"])
        yield from checkup.of_configuration(daemon.home)
    yield from checkup.of_descriptors()


def _live(daemon: Daemon, document: DoctorDocument) -> Iterator[Finding]:
    """What hermesd finds out about itself."""
    try:
        answer = daemon.ask("doctor")
    except CommandError as error:
        if error.status in (Exit.NOT_ALLOWED, Exit.USAGE):
            raise
        yield finding("control", "error", error.message, error.fix)
        return
    document["leftovers"] = answer.get("leftovers", [])
    yield from answer["findings"]


def _print(options: Options, found: Finding, left: list[LeftoverRow]) -> None:
    severity = found["severity"]
    label = options.paint.state(severity, f"{severity:<8}")
    click.echo(f"{label} {words.safe(found['id'])}: {words.safe(found['message'])}")
    if found["fix"]:
        click.echo(f"{'':<8} fix: {words.safe(found['fix'])}")
    if found["id"] == "leftovers":
        for line in mending.lines(left):
            click.echo(f"{'':<8} {line}")
