"""``hermesctl ps``: one row per worker."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import psview, render, words
from ..daemon import Daemon
from ..options import Options, usage, verb

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import PsDocument


@verb("ps", short_help="The workers.")
@click.option("--tree", is_flag=True, help="With their MCP servers and every process below.")
@click.option("--sort", type=click.Choice(list(psview.SORTS)), default="session", show_default=True)
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only these; VALUE may have * and ?.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["wide", "names", "json"]),
    help="More columns, only the sessions, or as --json.",
)
def command(options: Options, tree: bool, sort: str, filters: tuple[str, ...], output: str | None) -> None:
    """The workers, with CPU and memory of their whole trees. CPU% 100 is one core."""
    try:
        wanted = [psview.parse_filter(text) for text in filters]
    except ValueError as error:
        usage(str(error))
    document = cast("PsDocument", Daemon(options).ask("ps", {"tree": tree}))
    total = psview.count_workers(document)
    document["workers"] = psview.sort([row for row in document["workers"] if psview.matches(row, wanted)], sort)
    if options.json or output == "json":
        options.print_json(document)
    elif output == "names":
        for row in document["workers"]:
            if row["session"]:
                click.echo(words.safe(row["session"]))
    else:
        layout = psview.Layout(wide=output == "wide", tree=tree)
        width = render.terminal_width(sys.stdout)
        click.echo(psview.headline(document, total))
        for line in psview.lines(document, layout, datetime.now(UTC), options.paint, width):
            click.echo(line)
        for finding in document.get("warnings", []):
            click.echo(f"{options.paint.state(words.safe(finding['severity']))}: {words.safe(finding['message'])}")
