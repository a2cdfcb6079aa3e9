"""``hermesctl undrain``: the end of a drain."""

from __future__ import annotations

import click

from .. import words
from ..daemon import Daemon
from ..options import Options, verb


@verb("undrain", short_help="Begin new turns again.")
@click.option("--session", default="", help="Only this one.")
def command(options: Options, session: str) -> None:
    """Begin new turns again, first those of the messages that wait. Without --session every drain is lifted."""
    document = Daemon(options).ask("undrain", {"session": session})
    if options.json:
        options.print_json(document)
    elif document["lifted"]:
        click.echo(f"lifted; {words.count(document['waiting'], 'message')} waiting")
    else:
        click.echo("nothing was draining")
