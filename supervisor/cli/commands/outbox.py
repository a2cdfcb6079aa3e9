"""``hermesctl outbox``: the messages to chats, and those that did not arrive."""

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
    from hermesd.supervisor.control.shapes import OutboxDocument, OutboxMessageDocument, OutboxRow


@with_global_options
@click.group("outbox")
def command() -> None:
    """The messages to chats: pending, sending, waiting (nobody looks at the chat), sent, failed, ambiguous, dropped."""


@verb("ls", short_help="The newest messages.")
@queues.choice
def ls(options: Options, state: str, session: str, limit: int) -> None:
    """The newest messages. What may have arrived or not: --state ambiguous."""
    params = {"state": state, "session": session, "limit": limit}
    document = cast("OutboxDocument", Daemon(options).ask("outbox.list", params))
    if options.json:
        options.print_json(document)
        return
    now = datetime.now(UTC)
    rows = [
        (
            str(row["id"]),
            words.safe(row["state"]),
            words.ago(words.seconds_since(row["created_at"], now)),
            str(row["attempts"]),
            words.safe(row["kind"]),
            words.safe(f"{row['platform']}:{row['chat']}"),
            queues.one_line(row["text"]),
            queues.one_line(row["error"]),
        )
        for row in document["messages"]
    ]
    columns = (
        Column("ID", right=True),
        Column("STATE", states=True),
        Column("CREATED", right=True),
        Column("TRIES", right=True),
        Column("KIND"),
        Column("TO", shrinks=True),
        Column("TEXT", shrinks=True),
        Column("ERROR", shrinks=True),
    )
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)


@verb("show", short_help="One message, whole.")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
def show(options: Options, number: int) -> None:
    """One message, whole."""
    document = cast("OutboxMessageDocument", Daemon(options).ask("outbox.show", {"id": str(number)}))
    if options.json:
        options.print_json(document)
        return
    for line in page(document["message"], datetime.now(UTC)):
        click.echo(line)


@verb("retry", short_help="Send messages again that did not arrive.")
@queues.IDS
def retry(options: Options, ids: tuple[int, ...]) -> int:
    """Send messages again that failed. One that may have arrived (ambiguous) says that it may be a repetition."""
    return queues.order(options, "outbox.retry", ids)


@verb("drop", short_help="Give up messages that were not sent.")
@queues.IDS
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(options: Options, ids: tuple[int, ...], yes: bool) -> int:
    """Give up messages that are pending, waiting, failed or ambiguous. More than one is asked about first."""
    return queues.drop(options, "outbox.drop", ids, yes)


for _subcommand in (ls, show, retry, drop):
    command.add_command(_subcommand)


def page(row: OutboxRow, now: datetime) -> Iterator[str]:
    """The page of one message. Pure."""
    facts = {
        "Message": f"{row['id']}, {row['state']} for {words.duration(words.seconds_since(row['changed_at'], now))}",
        "Error": row["error"],
        "Session": row["session"],
        "To": f"{row['platform']}:{row['chat']}" + (f":{row['thread']}" if row["thread"] else ""),
        "Answers": row["reply_to"],
        "Kind": row["kind"],
        "Created": row["created_at"],
        "Next try": row["next_try_at"] or "",
        "Turn": row["turn"] or "",
        "Platform's id": row["platform_message_id"] or "",
        "Tries": str(row["attempts"]),
    }
    yield from queues.page(facts, row.get("files", []), row["text"])
