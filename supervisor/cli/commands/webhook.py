"""``hermesctl webhook``: the routes on which programs hand in events."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import click

from .. import render, words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, hint, usage, verb, with_global_options
from ..render import Column

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import SampleDocument, SubscribedDocument, WebhookRow, WebhooksDocument

PATIENCE = 5.0
"""Seconds for what is written to disk before it is answered."""

SEND_SECONDS = 30.0


@with_global_options
@click.group("webhook")
def command() -> None:
    """The routes of platform webhook: programs post events to them, and their answers go to a chat or into the log."""


@verb("list", short_help="Every route.")
def list_(options: Options) -> int:
    """Every route, those of config.yaml and those that were subscribed. Exit status 8 when one of them takes no events,
    or webhook_subscriptions.json is broken.
    """
    document = cast("WebhooksDocument", Daemon(options).ask("webhook.list"))
    bad = bool(document["faults"]) or any(row["problem"] for row in document["routes"])
    status = Exit.PARTLY if bad else Exit.DONE
    if options.json:
        options.print_json(document)
        return status
    now = datetime.now(UTC)
    columns = (
        Column("ROUTE"),
        Column("EVENTS", shrinks=True),
        Column("DELIVER", shrinks=True),
        Column("SECRET"),
        Column("TAKEN", right=True),
        Column("LAST", right=True),
        Column("URL", shrinks=True),
    )
    rows = [_cells(row, now) for row in document["routes"]]
    for line in render.table(columns, rows, options.paint, render.terminal_width(sys.stdout)):
        click.echo(line)
    for row in document["routes"]:
        if row["problem"]:
            hint(f"{words.safe(row['name'])} takes no events: {words.safe(row['problem'])}")
    for fault in document["faults"]:
        hint(words.safe(fault))
    if not document["routes"]:
        hint("there is no route yet: hermesctl webhook subscribe NAME makes one")
    return status


def _cells(row: WebhookRow, now: datetime) -> tuple[str, ...]:
    return (
        words.safe(row["name"]),
        words.safe(", ".join(row["events"]) or "all"),
        words.safe(_deliver(row)),
        "yes" if row["checks"] else "no",
        str(row["counts"].get("accepted", 0)),
        words.ago(words.seconds_since(row["received_at"], now)),
        words.safe(row["url"]),
    )


def _deliver(row: WebhookRow) -> str:
    if row["platform"] == "webhook":
        return row["chat"] if row["chat"].startswith("github:") else "log"
    place = ":".join(part for part in (row["chat"] or "home channel", row["thread"]) if part)
    return f"{row['platform']} {place}{' (no agent)' if row['deliver_only'] else ''}"


@verb("subscribe", short_help="Make a route, or change one.")
@click.argument("name")
@click.option("--prompt", help="What the agent is told; {pull_request.title} stands for what the payload has there.")
@click.option("--events", help="The events that it takes, separated by commas; without it, all.")
@click.option("--description", help="For people.")
@click.option("--deliver", help="Where answers go: log, or a platform.")
@click.option("--deliver-chat-id", help="The chat there; without it, the platform's home channel.")
@click.option("--deliver-thread-id", help="The thread or topic of that chat.")
@click.option("--deliver-only", is_flag=True, default=None, help="Ask no agent: the prompt is what is sent.")
@click.option("--secret", help="The secret that its sender has already; without it, one is made.")
@click.option("--signature", help="Take only this scheme: github, gitlab, standard, generic, linear or bearer.")
def subscribe(options: Options, name: str, **given: Any) -> None:
    """Make the route NAME, in effect at once and kept in webhook_subscriptions.json. Prints what its sender needs: the
    address and the secret. One that is there keeps what no option changes, its secret too.
    """
    params = {"name": name.strip().lower().replace(" ", "-"), "fields": json.dumps(_fields(given))}
    document = cast("SubscribedDocument", Daemon(options, PATIENCE).ask("webhook.subscribe", params))
    if options.json:
        options.print_json(document)
        return
    row = document["route"]
    click.echo(f"{'made' if document['created'] else 'changed'} route {words.safe(row['name'])}")
    click.echo(f"  URL      {words.safe(row['url'])}")
    click.echo(f"  Secret   {words.safe(document['secret'])}")
    click.echo(f"  Events   {words.safe(', '.join(row['events']) or 'all')}")
    click.echo(f"  Deliver  {words.safe(_deliver(row))}")
    if row["problem"]:
        hint(f"it takes no events yet: {words.safe(row['problem'])}")


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """The route as the file has it."""
    fields = {key: given[key] for key in ("prompt", "description", "deliver", "secret", "signature", "deliver_only")}
    found = {key: value for key, value in fields.items() if value is not None}
    if given["events"] is not None:
        found["events"] = [word for part in given["events"].split(",") if (word := part.strip())]
    place = {"chat_id": given["deliver_chat_id"], "thread_id": given["deliver_thread_id"]}
    if any(value is not None for value in place.values()):
        found["deliver_extra"] = {key: value for key, value in place.items() if value is not None}
    return found


@verb("remove", short_help="Take a route away.")
@click.argument("name")
def remove(options: Options, name: str) -> None:
    """Take the route NAME away that was subscribed. Events that were taken are answered."""
    document = Daemon(options, PATIENCE).ask("webhook.remove", {"name": name})
    if options.json:
        options.print_json(document)
    else:
        click.echo(f"removed route {words.safe(name)}")


@verb("test", short_help="Send a signed event to a route.")
@click.argument("name")
@click.option("--payload", default="", help='The JSON to send, or "-" for what comes on stdin.')
@click.option("--event", default="", help="What to call it; without it, the first that the route takes.")
def test(options: Options, name: str, payload: str, event: str) -> int:
    """Send the route NAME an event over HTTP, signed as its sender would, and print what it is answered. The agent
    runs, and its answer is delivered as for any event.
    """
    if payload == "-":
        payload = sys.stdin.read()
    if payload:
        try:
            json.loads(payload)
        except ValueError as error:
            usage(f"the payload is not JSON: {error}")
    params = {"name": name, "event": event, "payload": payload}
    sample = cast("SampleDocument", Daemon(options).ask("webhook.sample", params))
    status, text = _post(sample, options.timeout or SEND_SECONDS)
    if options.json:
        options.print_json({"schema": 1, "url": sample["url"], "status": status, "response": text})
    else:
        click.echo(f"POST {words.safe(sample['url'])}: {status} {words.safe(text)}")
    return Exit.DONE if 200 <= status < 300 else Exit.FAILED


def _post(sample: SampleDocument, seconds: float) -> tuple[int, str]:
    """Status and body of the answer."""
    from http.client import HTTPConnection, HTTPException  # takes 20 ms, and no other verb needs it
    from urllib.parse import urlsplit

    url = urlsplit(sample["url"])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(url.hostname or "", url.hostname or "")
    connection = HTTPConnection(host, url.port, timeout=seconds)
    try:
        connection.request("POST", url.path, sample["body"].encode(), sample["headers"])
        response = connection.getresponse()
        return response.status, response.read(1 << 16).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        raise CommandError(Exit.FAILED, "failed", f"cannot post to {sample['url']}: {error}", "") from error
    finally:
        connection.close()


for _subcommand in (list_, subscribe, remove, test):
    command.add_command(_subcommand)
