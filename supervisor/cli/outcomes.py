"""What became of the sessions of a request for several: one line each, and the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import words
from .exits import Exit
from .options import Options

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import OutcomesDocument


def report(options: Options, document: OutcomesDocument, done: str) -> int:
    """Prints the outcomes; ``done`` is the word for success ("stopped"). 0: all, 8: some, 1: none of them."""
    outcomes = document["sessions"]
    bad = [outcome for outcome in outcomes if outcome["outcome"] != "done"]
    if options.json:
        options.print_json(document)
    else:
        for outcome in outcomes:
            word = {"done": done, "not_found": "no such session"}.get(outcome["outcome"], outcome["outcome"])
            detail = f": {words.safe(outcome['detail'])}" if outcome["detail"] else ""
            click.echo(f"{words.safe(outcome['session'])}: {words.safe(word)}{detail}", err=outcome in bad)
        if document.get("killed"):
            click.echo(f"{words.count(document['killed'], 'process')} had to be killed", err=True)
    if not bad:
        return Exit.DONE
    return Exit.FAILED if len(bad) == len(outcomes) else Exit.PARTLY
