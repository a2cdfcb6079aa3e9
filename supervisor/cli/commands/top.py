"""``hermesctl top``: the workers, live."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import psview, render
from ..daemon import Daemon
from ..exits import Exit
from ..options import Options, usage, verb
from ..topview import Sample, View, measured, screen

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import PsDocument, StatusDocument

Take = Callable[[bool], Sample]
"""One sample; the parameter says whether it must have every process."""


@verb("top", short_help="The workers, live.", json_help="JSON Lines, one document per interval; with --once only one.")
@click.option("--once", is_flag=True, help="One picture, of two samples with the interval between them.")
@click.option("--interval", type=click.FloatRange(min=0.1, max=3600), default=1.0, show_default=True)
@click.option("--sort", type=click.Choice(list(psview.SORTS)), default="cpu", show_default=True)
@click.option("--tree", is_flag=True, help="With MCP servers and every process below.")
def command(options: Options, once: bool, interval: float, sort: str, tree: bool) -> int:
    """The workers, live, the busiest first. CPU% 100 is one core. Keys: P M Q T sort, t tree, space pause, q quit,
    ? help.

    With --json a document per interval (JSON Lines), with --once and --json one document.
    """
    daemon = Daemon(options)
    view = View(sort=sort, tree=tree)

    def take(tree: bool) -> Sample:
        ps, status = daemon.ask_all(("ps", {"tree": tree}), ("status", None))
        return Sample(cast("PsDocument", ps), cast("StatusDocument", status))

    if options.json:
        return _json(options, take, interval, view, once)
    if once:
        before = take(False)
        time.sleep(interval)
        after = take(tree)
        sample = Sample(measured(before.ps, after.ps), after.status)
        width = render.terminal_width(sys.stdout)
        for line in screen(sample, view, datetime.now(UTC), options.paint, width):
            click.echo(line)
        return Exit.DONE
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        usage("top needs a terminal that can move its cursor; give --once for one picture or --json for lines")
    from ..topscreen import Screen

    Screen(take, interval, options.paint, view).run()
    return Exit.DONE


def _json(options: Options, take: Take, interval: float, view: View, once: bool) -> int:
    before = take(False)
    while True:
        time.sleep(interval)
        after = take(view.tree)
        document = measured(before.ps, after.ps)
        document["workers"] = psview.sort(document["workers"], view.sort)
        if once:
            options.print_json(document)
            return Exit.DONE
        render.json_line(document)
        before = after
