"""``hermesctl inbox``: the messages of users, and those that were set aside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from .. import queues, render, words
from ..daemon import Daemon
from ..options import Options, verb, with_global_options
from ..render import Column

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import InboxDocument, InboxMessageDocument, InboxRow


@with_global_options
@click.group("inbox")
def command() -> None:
    """The messages of users: received, queued, dispatched, accepted, answered, refused, failed, lost, dead, dropped."""


@verb("ls", short_help="The newest messages.")
@queues.choice
def ls(options: Options, state: str, session: str, limit: int) -> None:
    """The newest messages. Dead letters: --state dead."""
    params = {"state": state, "session": session, "limit": limit}
    document = cast("InboxDocument", Daemon(options).ask("inbox.list", params))
    if options.json:
        options.print_json(document)
        return
    now = datetime.now(UTC)
    rows = [
        (
            str(row["id"]),
            words.safe(row["state"]),
            words.ago(words.seconds_since(row["received_at"], now)),
            str(row["attempts"]),
            str(row["killed"]),
            words.safe(row["session"] or f"{row['platform']}:{row['chat']}"),
            words.safe(row["user"] or words.NOTHING),
            queues.one_line(row["text"]),
            queues.one_line(row["error"]),
        )
        for row in document["messages"]
    ]
    columns = (
        Column("ID", right=True),
        Column("STATE", states=True),
        Column("RECEIVED", right=True),
        Column("TRIES", right=True),
        Column("KILLED", right=True),
        Column("SESSION", shrinks=True),
        Column("USER", shrinks=True),
        Column("TEXT", shrinks=True),
        Column("ERROR", shrinks=True),
    )
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


@verb("show", short_help="One message, whole.")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
def show(options: Options, number: int) -> None:
    """One message, whole."""
    document = cast("InboxMessageDocument", Daemon(options).ask("inbox.show", {"id": str(number)}))
    if options.json:
        options.print_json(document)
        return
    for line in page(document["message"], datetime.now(UTC)):
        click.echo(line)


@verb("retry", short_help="Queue messages again that ended without an answer.")
@queues.IDS
def retry(options: Options, ids: tuple[int, ...]) -> int:
    """Queue messages again that are dead, failed, lost or dropped, as if they had just come."""
    return queues.order(options, "inbox.retry", ids)


@verb("drop", short_help="Set messages aside that wait, or dead letters.")
@queues.IDS
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(options: Options, ids: tuple[int, ...], yes: bool) -> int:
    """Set messages aside that wait for their session's agent, or dead letters. Their chats are not told.

    More than one is asked about first.
    """
    return queues.drop(options, "inbox.drop", ids, yes)


for _subcommand in (ls, show, retry, drop):
    command.add_command(_subcommand)


def page(row: InboxRow, now: datetime) -> Iterator[str]:
    """The page of one message. Pure."""
    facts = {
        "Message": f"{row['id']}, {row['state']} for {words.duration(words.seconds_since(row['changed_at'], now))}",
        "Error": row["error"],
        "Session": row["session"],
        "From": f"{row['user']} in {row['platform']}:{row['chat']}" + (f":{row['thread']}" if row["thread"] else ""),
        "Platform's id": row["message_id"],
        "Received": row["received_at"],
        "Turn": row["turn"] or "",
        "Worker": row["worker"] or "",
        "Tries": f"{row['attempts']}, of which {row['killed']} killed their worker" if row["attempts"] else "",
    }
    yield from queues.page(facts, row.get("files", []), row["text"])
