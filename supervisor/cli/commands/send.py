"""``hermesctl send``: a message to a chat."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hermesd.supervisor.control.api import TEXT_LIMIT
from hermesd.supervisor.control.errors import NoAnswer

from .. import words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, usage, verb

if TYPE_CHECKING:
    from hermesd.supervisor.control.client import Stream


@verb("send", short_help="Send a message to a chat.")
@click.argument("text")
@click.option("--platform", default="", help="Where the chat is, as in: telegram.")
@click.option("--chat", default="", help="Its id there.")
@click.option("--thread", default="", help="The thread of the chat.")
@click.option("--session", default="", help="The chat of this session, in place of --platform and --chat.")
@click.option("--key", default="", help="The same key twice is the same message, which is sent once.")
@click.option("--unseen", is_flag=True, help="Also to a chat that nobody has written from yet.")
@click.option("--wait", is_flag=True, help="Return when the platform has it.")
def command(
    options: Options, text: str, platform: str, chat: str, thread: str, session: str, key: str, unseen: bool, wait: bool
) -> int:
    """Send TEXT to a chat, "-" for what comes on stdin. It is on disk when this returns, and sent as soon as its
    platform takes it, also after a restart of hermesd. Prints the number of its row in the outbox.

    Exit status with --wait: 0 sent, 1 given up, 8 kept for a platform that is not up or a local chat that nobody
    is attached to, 9 not sent before --timeout.
    """
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        usage("there is nothing to send")
    if len(text) > TEXT_LIMIT:
        usage(f"the text is {len(text)} characters long; the most is {TEXT_LIMIT}")
    params = {
        "platform": platform, "chat": chat, "thread": thread, "session": session, "text": text, "key": key,
        "unseen": unseen,
    }  # fmt: skip
    with Daemon(options).stream("send", params) as stream:
        document = _follow(stream, wait, options.timeout)
    if options.json:
        options.print_json(document)
    else:
        click.echo(_sentence(document))
    if not wait:
        return Exit.DONE
    return {"sent": Exit.DONE, "pending": Exit.PARTLY, "waiting": Exit.PARTLY}.get(document["state"], Exit.FAILED)


def _follow(stream: Stream, wait: bool, timeout: float | None) -> dict[str, Any]:
    document = stream.next()
    if document is None:
        raise CommandError(Exit.FAILED, "failed", "hermesd gave no answer")
    if not wait:
        return document
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while stream.next(deadline) is not None:
            continue  # only the last word counts
    except NoAnswer as error:
        message = f"message {document['id']} is not sent yet; hermesd goes on trying"
        raise CommandError(Exit.TIMED_OUT, "timed_out", message, "hermesctl outbox ls") from error
    assert stream.result is not None
    return stream.result


def _sentence(document: dict[str, Any]) -> str:
    to = f"{words.safe(document['platform'])} chat {words.safe(document['chat']) or 'default'}"
    why = f": {words.safe(document['error'])}" if document["error"] else ""
    return f"message {document['id']} to {to} is {words.safe(document['state'])}{why}"
