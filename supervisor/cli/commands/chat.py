"""``hermesctl chat``: a terminal, or lines from a pipe, attached to a session of the running hermesd."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from functools import partial

import click

from hermesd.supervisor.control.errors import Refused, Unreachable

from ..attachment import Attachment
from ..chatting import Conversation, Pipe, Printer, Terminal
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, verb


@verb("chat", short_help="Talk to the local agent.", json_help="JSON Lines, one object per event.")
@click.argument("name", default="", required=False)
def command(options: Options, name: str) -> int:
    """Talk to the local agent; NAME is one of several conversations (default: the one without a name).

    In a terminal: type, stop a running answer with Ctrl-C, end with Ctrl-D. From a pipe each line is a message, sent
    when the one before it is answered; a command goes at once when the agent asks, or when it comes after a pause. The
    answers go to stdout, everything else to stderr, and the command ends when every line is answered, with 1 if one of
    them failed. --timeout limits the whole.

    A hermesd that goes away is waited for, a little longer than its adopt_timeout, and told again what it has not
    answered. If it does not come back the exit status is 7.
    """
    daemon = Daemon(options)
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    printer: Printer
    if options.json:
        printer = Pipe(as_json=True)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        printer = Terminal(options.paint)
    else:
        printer = Pipe()
    try:
        connect = partial(daemon.connect, options.timeout)
        with closing(Attachment(connect, name, printer.tell, deadline)) as attachment:
            failed = Conversation(attachment, printer).run()
    except (Refused, Unreachable) as error:
        daemon.give_up(error)
    if failed:
        raise CommandError(Exit.FAILED, "failed", f"{failed} without an answer")
    return Exit.DONE
