"""THE table of slash commands, and how a message is recognised as one.

A row is a name, its aliases, one line of help and a handler. A handler gets a `Call` and returns the answer; None means
that it has made a turn of the message, which will be answered in its own time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.journal import Journal
from hermesd.supervisor.journal.errors import JournalUnavailable
from hermesd.supervisor.journal.rows import InboxRow

from ..lanes import Lanes

log = logging.getLogger("hermesd.commands")

NAME = re.compile(r"/([A-Za-z][A-Za-z0-9_-]{0,31})(?:@[A-Za-z0-9_]+)?(?:\s+(.*))?$", re.DOTALL)
"""``/name``, ``/name argument``, and ``/name@bot`` as Telegram writes it in groups."""


@dataclass(frozen=True, slots=True)
class Call:
    """One command of one user."""

    row: InboxRow
    key: SessionKey
    argument: str
    lanes: Lanes
    journal: Journal


Handler = Callable[[Call], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    help: str
    handler: Handler
    aliases: tuple[str, ...] = ()
    argument: str = ""  # how it is written in the help


def parse(text: str) -> tuple[str, str] | None:
    """(name, argument) of a message that is a command. A path such as ``/etc/passwd`` is none."""
    match = NAME.match(text.strip())
    return (match[1].casefold().replace("_", "-"), (match[2] or "").strip()) if match else None


class Commands:
    """Runs what `parse` found. An unknown command is answered as such and never reaches the agent."""

    def __init__(self, table: tuple[Command, ...], *, lanes: Lanes, journal: Journal):
        self._table = table
        self._lanes = lanes
        self._journal = journal
        self._by_name: Mapping[str, Command] = {
            name: command for command in table for name in (command.name, *command.aliases)
        }

    async def run(self, name: str, argument: str, row: InboxRow, key: SessionKey) -> str | None:
        command = self._by_name.get(name)
        if command is None:
            return f"There is no command /{name}. /help lists them."
        try:
            return await command.handler(Call(row, key, argument, self._lanes, self._journal))
        except JournalUnavailable as error:
            return f"/{name} failed: {error}"
        except Exception:
            log.exception("/%s failed", name)
            return f"/{name} failed; the log of hermesd says why."


def help_text(table: tuple[Command, ...]) -> str:
    lines = []
    for command in table:
        names = ", ".join(f"/{name}" for name in (command.name, *command.aliases))
        lines.append(f"{names} {command.argument}".rstrip() + f" - {command.help}")
    return "\n".join(lines)
