"""``hermesd --console``: the chat on this process's own stdin, stdout and stderr."""

from __future__ import annotations

import sys
from typing import Protocol

from hermesd.adapters.contract import AttachedChat, Front
from hermesd.adapters.local.lines import lines
from hermesd.adapters.local.output import Output
from hermesd.adapters.local.script import ScriptConsole


class Console(Front, Protocol):
    """A front that brings its own input."""

    async def run(self, chat: AttachedChat) -> int:
        """Talk until the input ends and is answered, or the front is closed; returns the exit status."""

    def interrupt(self) -> bool:
        """SIGINT: True when it stopped a turn, False when it is meant for the program."""


def open_console() -> Console:
    """An interactive chat when both stdin and stdout are terminals, else one message per line of stdin."""
    stdin, stdout, stderr = 0, Output(1, "stdout"), Output(2, "stderr")
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        # Only here: readline takes part in every later input() of the process.
        from hermesd.adapters.local.terminal import TerminalConsole

        return TerminalConsole(stdout)
    return ScriptConsole(lines(stdin), stdout, stderr)
