"""What the commands ``inbox`` and ``outbox`` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import words
from .daemon import Daemon
from .exits import Exit
from .options import Options, confirm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hermesd.supervisor.control.shapes import MessageOutcomesDocument

IDS = click.argument("ids", nargs=-1, required=True, metavar="ID...", type=click.IntRange(min=1))

_LABEL = 14  # columns of the labels at the left


def choice(body: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``ls``."""
    for option in (
        click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="At most so many."),
        click.option("--session", default="", metavar="KEY", help="Only those of one session."),
        click.option("--state", default="", metavar="WORD", help="Only those in one state."),
    ):
        body = option(body)
    return body


def order(options: Options, verb: str, ids: tuple[int, ...]) -> int:
    """Runs ``inbox.retry`` and the like and prints what became of each. 0: all, 8: some, 1: none of them."""
    document: MessageOutcomesDocument = Daemon(options).ask(verb, {"ids": [str(number) for number in ids]})  # type: ignore[assignment]
    outcomes = document["messages"]
    bad = [outcome for outcome in outcomes if outcome["outcome"] != "done"]
    if options.json:
        options.print_json(document)
    else:
        for outcome in outcomes:
            refused = "not done: " if outcome["outcome"] in ("refused", "failed") else ""
            click.echo(f"{outcome['id']}: {refused}{words.safe(outcome['detail'])}", err=outcome in bad)
    if not bad:
        return Exit.DONE
    return Exit.FAILED if len(bad) == len(outcomes) else Exit.PARTLY


def drop(options: Options, verb: str, ids: tuple[int, ...], yes: bool) -> int:
    """`order` for something that takes a message away: more than one is asked about first."""
    if len(ids) > 1:
        confirm(f"Drop {len(ids)} messages?", yes)
    return order(options, verb, ids)


def page(facts: Mapping[str, str], files: list[Any], text: str) -> Iterator[str]:
    """One message, whole: what is known of it, then its text. Pure."""
    for label, fact in facts.items():
        if fact:
            yield f"{label:<{_LABEL}}{words.safe(fact)}"
    for file in files:
        yield f"{'File':<{_LABEL}}{words.safe(file['name'])} ({words.safe(file['path'])})"
    yield ""
    yield from (words.safe(line) for line in (text or "(no text)").split("\n"))


def one_line(text: str) -> str:
    """A message in a column."""
    return words.safe(" ".join(text.split()))
