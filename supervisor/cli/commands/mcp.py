"""``hermesctl mcp``: the MCP servers of the workers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from hermesd.ipc.mcp import log_name

from .. import logview, render, words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, hint, verb, with_global_options
from ..outcomes import report
from ..render import Column
from ..waiting import watch
from .mcp_login import login

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import (
        McpBudget,
        McpDocument,
        McpResetDocument,
        McpRow,
        McpServerDocument,
        OutcomesDocument,
    )


@with_global_options
@click.group("mcp")
def command() -> None:
    """List, restart and look into the MCP servers of the workers."""


@verb("list", short_help="Every MCP server, and where it runs.")
def list_(options: Options) -> None:
    """Every configured MCP server, and below them the sessions in which one runs or has failed.

    A server is started when it is needed. One that fails is left alone for a while, longer each time, for all sessions
    together: NEXT TRY is when the next call starts it again. SPAWNS counts the processes, FAILED and CRASHED the
    failures in a row.
    """
    document = cast("McpDocument", Daemon(options).ask("mcp.list"))
    if options.json:
        options.print_json(document)
        return
    if not document["budgets"]:
        click.echo("no MCP server is configured")
    else:
        _print_budgets(options, document["budgets"])
    rows = [row for row in document["servers"] if row["pid"] or row["reason"] or row["state"] == "ready"]
    if rows:
        click.echo()
        _print_rows(options, rows)


def _print_budgets(options: Options, budgets: Sequence[McpBudget]) -> None:
    now = datetime.now(UTC)
    columns = (
        Column("SERVER"),
        Column("STATE", states=True),
        Column("RUNNING", right=True),
        Column("TOOLS", right=True),
        Column("SPAWNS", right=True),
        Column("FAILED", right=True),
        Column("CRASHED", right=True),
        Column("NEXT TRY", right=True),
        Column("REASON", shrinks=True),
    )
    rows = [
        (
            words.safe(budget["server"]),
            words.safe(budget["state"]),
            str(budget["running"]),
            words.NOTHING if budget["tools"] is None else str(budget["tools"]),
            str(budget["spawns"]),
            str(budget["failures"]),
            str(budget["crashes"]),
            _until(budget["next_try_at"], now),
            words.safe(budget["reason"]),
        )
        for budget in budgets
    ]
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


def _print_rows(options: Options, shown: Sequence[McpRow]) -> None:
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
    rows = [
        (
            words.safe(row["session"] or "(all sessions)"),
            words.safe(row["server"]),
            words.safe(row["state"]),
            str(row["pid"] or words.NOTHING),
            str(row["generation"]),
            words.cpu_time(row["cpu_seconds"]),
            words.size(row["memory_bytes"]),
            words.safe(row["reason"]),
        )
        for row in shown
    ]
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


def _until(moment: str | None, now: datetime) -> str:
    passed = words.seconds_since(moment, now)
    if passed is None:
        return words.NOTHING
    return f"in {words.short_duration(-passed)}" if passed < 0 else "now"


@verb("show", short_help="One server: configuration, tools, sessions.")
@click.argument("server")
def show(options: Options, server: str) -> None:
    """All about SERVER. Of its environment only the names are shown."""
    document = cast("McpServerDocument", Daemon(options).ask("mcp.show", {"server": server}))
    if options.json:
        options.print_json(document)
        return
    now = datetime.now(UTC)
    tools = document["tool_names"]
    facts = {
        "Server": document["server"],
        "State": document["state"],
        "Reason": document["reason"],
        "Next try": "" if document["next_try_at"] is None else _until(document["next_try_at"], now),
        "Starts": f"{words.count(document['spawns'], 'process')}; in a row {document['failures']} failed, "
        f"{document['crashes']} crashed",
        "Command": " ".join([document["command"], *document["args"]]) if document["command"] else "",
        "Address": document["url"],
        "Environment": ", ".join(document["env"]),
        "Directory": document["cwd"],
        "Times": _times(document),
        "Only tools": ", ".join(document["include"]),
        "Not tools": ", ".join(document["exclude"]),
        "Tools": "not known yet" if tools is None else ", ".join(tools) or "none",
        "Log": document["log"],
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<12}{words.safe(value)}")
    rows = [row for row in document["sessions"] if row["pid"] or row["reason"] or row["state"] == "ready"]
    if rows:
        click.echo()
        _print_rows(options, rows)


def _times(document: McpServerDocument) -> str:
    times = [
        ("call", document["timeout_s"]),
        ("start", document["connect_timeout_s"]),
        ("idle", document["idle_timeout_s"]),
        ("lifetime", document["max_lifetime_s"]),
    ]
    return ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in times if seconds is not None)


@verb("restart", short_help="New processes for a server.")
@click.argument("server")
@click.option("--session", default="", help="Only in the worker of this one.")
def restart(options: Options, server: str, session: str) -> int:
    """End the processes of SERVER in every worker; what they have started dies with them. The next call of an agent
    starts new ones, also of a server that is parked. A call that runs fails.
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


@verb("reset", short_help="Try a server again at once.")
@click.argument("server")
def reset(options: Options, server: str) -> None:
    """Forget the failures of SERVER: the next call starts it, also where it is parked. What runs goes on."""
    document = cast("McpResetDocument", Daemon(options).ask("mcp.reset", {"server": server}))
    if options.json:
        options.print_json(document)
    elif document["was"] in ("parked", "backoff"):
        click.echo(f"{words.safe(document['server'])} was in {words.safe(document['was'])}; the next call starts it")
    else:
        click.echo(f"{words.safe(document['server'])} was {words.safe(document['was'])}; nothing is held against it")


@verb("logs", short_help="What a server writes to stderr.", json_help="One object a line, with a key line.")
@click.argument("server")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, through rotations, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many at first.")
def logs(options: Options, server: str, follow: bool, lines: int) -> None:
    """What the processes of SERVER have written to standard error, in all sessions; reads the file itself, so that it
    works when hermesd has stopped. A line that begins with "---" is hermesd's: a process began, or bytes came too fast
    to be kept.
    """
    path = Daemon(options).paths.logs / log_name(server)
    if not follow and not any(logview.rotated(path)):
        raise CommandError(
            Exit.FAILED, "no_log", f"MCP server {server} has written nothing to {path}", "hermesctl mcp list"
        )

    def show_line(raw: bytes) -> None:
        text = raw.decode("utf-8", "replace")
        if options.json:
            render.json_line({"line": text})
        else:
            click.echo(words.safe(text))

    tail = logview.Tail(path)
    try:
        for raw in logview.last_raw(path, lines, tail):
            show_line(raw)
        if follow:
            if not path.exists():
                hint(f"waiting for {path}")
            for raw in tail.follow_raw():
                show_line(raw)
    except PermissionError as error:
        raise CommandError(Exit.NOT_ALLOWED, "denied", f"cannot read {path}: {error.strerror}") from error
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        tail.close()


for _subcommand in (list_, show, restart, reset, logs, login):
    command.add_command(_subcommand)
