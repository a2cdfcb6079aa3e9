"""``hermesctl version``: of both programs."""

from __future__ import annotations

import click

from hermesd.ipc.version import VERSION

from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, hint, verb


@verb("version", short_help="The versions of hermesctl and hermesd.")
def command(options: Options) -> None:
    """The versions of hermesctl and of the running hermesd."""
    running = None
    try:
        running = Daemon(options).ask("version")
    except CommandError as error:
        if error.status is not Exit.NOT_RUNNING:
            raise
    if options.json:
        options.print_json({"schema": 1, "hermesctl": VERSION, "hermesd": running and running["version"]})
        return
    click.echo(f"hermesctl {VERSION}")
    click.echo(f"hermesd   {running['version']} (pid {running['pid']})" if running else "hermesd   not running")
    if running and running["version"] != VERSION:
        hint("they differ: restart hermesd to run the installed version")
