"""``hermesctl reload``: the configuration, read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from .. import words
from ..daemon import Daemon
from ..options import Options, hint, verb

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import ReloadDocument


@verb("reload", short_help="Read the configuration again.")
@click.option("--dry-run", is_flag=True, help="Only say what it would change.")
def command(options: Options, dry_run: bool) -> None:
    """Read config.yaml and .env again and apply what can be applied while hermesd runs; the rest is named. SIGHUP does
    the same. A file with errors changes nothing.

    Exit status 6: the configuration is wrong, and the old one stays.
    """
    document = cast("ReloadDocument", Daemon(options, patience=5.0).ask("reload", {"dry_run": dry_run}))
    if options.json:
        options.print_json(document)
        return
    for warning in document["warnings"]:
        hint(f"warning: {words.safe(warning['message'])}")
        if warning["fix"]:
            hint(f"  fix: {words.safe(warning['fix'])}")
    if document["unchanged"]:
        click.echo("nothing has changed")
    later, idle = set(document["new_workers"]), set(document["next_idle"])
    done = "would apply" if dry_run else "applied"
    for key in document["applied"]:
        to = " to workers that start from now on" if key in later else " to each worker when it is idle" * (key in idle)
        click.echo(f"{done}{to}: {words.safe(key)}")
    for what, names in document["mcp"].items():
        if names:
            click.echo(f"MCP servers {what}: {', '.join(map(words.safe, cast('list[str]', names)))}")
    for key in document["needs_restart"]:
        click.echo(f"needs a restart of hermesd: {words.safe(key)}")
    if document["needs_restart"]:
        hint("  fix: hermesctl restart --supervisor, on the workers that there are")
    for key in document["no_effect"]:
        click.echo(f"has no effect in this version: {words.safe(key)}")
