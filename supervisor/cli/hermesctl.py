"""``hermesctl``: watches and steers a running hermesd.

A command's module is imported when the command runs, for the first line must be out within 150 ms of the start.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from hermesd.ipc.version import VERSION

from . import render
from .exits import CommandError, Exit
from .options import with_global_options

SCHEMA = 1


class Entry(NamedTuple):
    """One command: its module below `hermesd.supervisor.cli.commands`, and its line of help."""

    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "status": Entry("status", "Whether hermesd runs, since when, and what is wrong."),
    "ps": Entry("ps", "The workers, with CPU and memory of their whole trees."),
    "top": Entry("top", "The same, live; the busiest first."),
    "logs": Entry("logs", "The log, also of a hermesd that has stopped."),
    "chat": Entry("chat", "Talk to the local agent; lines from a pipe are answered on stdout."),
    "sessions": Entry("sessions", "List, show and reset conversations."),
    "inbox": Entry("inbox", "The messages of users: list, show, retry and drop, dead letters included."),
    "outbox": Entry("outbox", "The messages to chats: list, show, retry and drop."),
    "stop": Entry("stop", "Drain and end hermesd, or the workers of some sessions."),
    "restart": Entry("restart", "Start new workers for sessions, or hermesd anew on its workers."),
    "drain": Entry("drain", "Begin no new turns; messages are taken and wait."),
    "undrain": Entry("undrain", "Begin new turns again."),
    "reload": Entry("reload", "Read the configuration again and apply it."),
    "send": Entry("send", "Send a message to a chat."),
    "platforms": Entry("platforms", "List the platforms; pause, resume and reconnect them."),
    "webhook": Entry("webhook", "The routes for events of programs: list, subscribe, remove and test."),
    "mcp": Entry("mcp", "List and restart the MCP servers of the workers."),
    "config": Entry("config", "Check a configuration, or print its JSON Schema; without hermesd."),
    "doctor": Entry("doctor", "Look for what is wrong or could be better, and how to mend it."),
    "completion": Entry("completion", "Completion for bash, zsh or fish."),
    "version": Entry("version", "The versions of hermesctl and of the running hermesd."),
}


class LazyGroup(click.Group):
    """Knows its commands by `COMMANDS` and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(f"hermesd.supervisor.cli.commands.{entry.module}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names from the table: a key press must not import every command."""
        names = [
            CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return names if not incomplete.startswith("-") else click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@with_global_options
@click.group("hermesctl", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", prog_name="hermesctl", message="%(prog)s %(version)s")
def hermesctl() -> None:
    """Watches and steers hermesd.

    Exit status: 0 done, 1 failed, 2 wrong usage, 4 not allowed, 6 the configuration is wrong, 7 hermesd is not running,
    8 partly done, 9 timed out and still going on, 75 try again, 130 interrupted. Of status: 0 running, 1 dead with its
    PID file left, 3 not running, 4 running but not answering, 8 degraded (with --strict).
    """


def run(arguments: Sequence[str]) -> int:
    """One command line; the exit status. Whatever goes wrong is said in one sentence."""
    as_json = "--json" in arguments
    try:
        status = hermesctl.main(list(arguments), prog_name="hermesctl", standalone_mode=False)
        return int(status or 0)
    except CommandError as error:
        return _report(error, as_json)
    except click.UsageError as error:
        if as_json:
            return _report(CommandError(Exit.USAGE, "usage", error.format_message()), as_json)
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        return _report(CommandError(Exit.FAILED, "failed", error.format_message()), as_json)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED


def _report(error: CommandError, as_json: bool) -> int:
    if as_json:
        body = {"code": error.code, "message": error.message, "next": error.fix}
        render.json_line({"schema": SCHEMA, "error": body})
    click.echo(f"error: {error.message}", err=True)
    if error.fix:
        click.echo(f"  fix: {error.fix}", err=True)
    return error.status


def main() -> None:
    """The console script."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # they may be closed, or replaced by a test
            stream.reconfigure(errors=errors)
    sys.exit(run(sys.argv[1:]))
