"""What became of the sessions of a request for several: one line each, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import words
from .exits import Exit
from .options import Options, hint

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import OutcomesDocument, SessionOutcome

NO_SUCH = "no such session"
LIST = "hermesctl sessions list"


def report(options: Options, document: OutcomesDocument, done: str) -> int:
    """Prints the outcomes; ``done`` is the word for success ("stopped"). 0: all, 8: some, 1: none of them, 9: what is
    not done still goes on."""
    outcomes = document["sessions"]
    bad = [outcome for outcome in outcomes if outcome["outcome"] != "done"]
    if options.json:
        options.print_json(document)
    else:
        for outcome in outcomes:
            word = {"done": done, "not_found": NO_SUCH, "timed_out": "not done in time"}.get(
                outcome["outcome"], outcome["outcome"]
            )
            detail = f": {words.safe(outcome['detail'])}" if outcome["detail"] else ""
            click.echo(f"{words.safe(outcome['session'])}: {words.safe(word)}{detail}", err=outcome in bad)
        if document.get("killed"):
            click.echo(f"{words.count(document['killed'], 'process')} had to be killed", err=True)
        _next_step(outcomes)
    if not bad:
        return Exit.DONE
    if all(outcome["outcome"] == "timed_out" for outcome in bad):
        return Exit.TIMED_OUT
    return Exit.FAILED if len(bad) == len(outcomes) else Exit.PARTLY


def report_begun(options: Options, state: str, asked: int, not_found: Sequence[str]) -> int:
    """The same for --no-wait: ``state`` is what has begun ("stopping"); sessions that there are none of are named."""
    if options.json:
        rows = [{"session": session, "outcome": "not_found", "detail": ""} for session in not_found]
        options.print_json({"schema": 1, "state": state, **({"sessions": rows} if rows else {})})
    else:
        if len(not_found) < asked:
            click.echo(state)
        for session in not_found:
            click.echo(f"{words.safe(session)}: {NO_SUCH}", err=True)
        if not_found:
            hint(f"  fix: {LIST}")
    if not not_found:
        return Exit.DONE
    return Exit.FAILED if len(not_found) == asked else Exit.PARTLY


def _next_step(outcomes: Sequence[SessionOutcome]) -> None:
    found = {outcome["outcome"] for outcome in outcomes}
    if any(outcome["outcome"] == "not_found" and not outcome["detail"] for outcome in outcomes):
        hint(f"  fix: {LIST}")
    if found & {"failed", "timed_out"}:
        hint("  fix: hermesctl logs says more")
