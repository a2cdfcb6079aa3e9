"""``hermesctl doctor``: what is wrong or could be better, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .. import checkup, words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, verb

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import Finding

SEVERITIES = ("ok", "warning", "error")


@verb("doctor", short_help="Look for what is wrong.")
@click.option("--only", multiple=True, metavar="ID", help="Only findings with this id.")
@click.option("--skip", multiple=True, metavar="ID", help="No findings with this id.")
def command(options: Options, only: tuple[str, ...], skip: tuple[str, ...]) -> int:
    """Look for what is wrong or could be better, and how to mend it. Works with hermesd running and stopped.

    Exit status: 0 all is well, 1 warnings, 2 errors.
    """
    shown: list[Finding] = []
    for found in _findings(Daemon(options)):
        if (only and found["id"] not in only) or found["id"] in skip:
            continue
        found["fix"] = options.suggest(found["fix"])
        shown.append(found)
        if not options.json:
            _print(options, found)
    if options.json:
        options.print_json({"schema": 1, "findings": shown})
    return max((SEVERITIES.index(found["severity"]) for found in shown), default=0)


def _findings(daemon: Daemon) -> Iterator[Finding]:
    standing = daemon.describe()
    yield from checkup.of_home(daemon.paths)
    yield from checkup.of_pid_file(daemon.paths, standing)
    if standing.state == "running":
        yield from _live(daemon)
    else:
        yield from checkup.of_containment(daemon.paths.instance)
        yield from checkup.of_leftovers(daemon.paths.instance)
        yield from checkup.of_configuration(daemon.home)
    yield from checkup.of_limits()


def _live(daemon: Daemon) -> Iterator[Finding]:
    """What hermesd finds out about itself."""
    try:
        yield from daemon.ask("doctor")["findings"]
    except CommandError as error:
        if error.status in (Exit.NOT_ALLOWED, Exit.USAGE):
            raise
        yield checkup.finding("control", "error", error.message, error.fix)


def _print(options: Options, found: Finding) -> None:
    severity = found["severity"]
    label = options.paint.state(severity, f"{severity:<8}")
    click.echo(f"{label} {words.safe(found['id'])}: {words.safe(found['message'])}")
    if found["fix"]:
        click.echo(f"{'':<8} fix: {words.safe(found['fix'])}")
