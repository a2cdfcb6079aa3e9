"""``hermesctl mcp``: the MCP servers of the workers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from .. import render, words
from ..daemon import Daemon
from ..exits import Exit
from ..options import Options, verb, with_global_options
from ..outcomes import report
from ..render import Column
from ..waiting import watch

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import McpDocument, OutcomesDocument


@with_global_options
@click.group("mcp")
def command() -> None:
    """List and restart the MCP servers of the workers."""


@verb("list", short_help="Every MCP server of every session.")
def list_(options: Options) -> None:
    """Every MCP server of every session with a worker. A server is started when it is needed."""
    document = cast("McpDocument", Daemon(options).ask("mcp.list"))
    if options.json:
        options.print_json(document)
        return
    rows = [
        (
            words.safe(row["session"]),
            words.safe(row["server"]),
            words.safe(row["state"]),
            str(row["pid"] or words.NOTHING),
            str(row["generation"]),
            words.cpu_time(row["cpu_seconds"]),
            words.size(row["memory_bytes"]),
            words.safe(row["reason"]),
        )
        for row in document["servers"]
    ]
    columns = (
        Column("SESSION", shrinks=True),
        Column("SERVER"),
        Column("STATE", states=True),
        Column("PID", right=True),
        Column("GENERATION", right=True),
        Column("CPU-TIME", right=True),
        Column("MEM", right=True),
        Column("REASON", shrinks=True),
    )
    names = ", ".join(words.safe(name) for name in document["configured"]) or "none"
    click.echo(f"configured: {names}")
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


@verb("restart", short_help="New processes for a server.")
@click.argument("server")
@click.option("--session", default="", help="Only in the worker of this one.")
def restart(options: Options, server: str, session: str) -> int:
    """End the processes of SERVER in every worker; what they have started dies with them. The next call of an agent
    starts new ones. A call that runs fails.
    """
    with Daemon(options).stream(
        "mcp.restart", {"server": server, "session": session, "timeout_s": options.timeout}
    ) as stream:
        watch(stream, options.timeout, no_wait=False)
        result = stream.result
    assert result is not None
    if not result["sessions"] and not options.json:
        click.echo(f"no worker runs, so {server} runs nowhere")
        return Exit.DONE
    return report(options, cast("OutcomesDocument", result), "restarted")


for _subcommand in (list_, restart):
    command.add_command(_subcommand)
