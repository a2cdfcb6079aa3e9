"""``hermesctl drain``: no new turns for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hermesd.supervisor.control.errors import NoAnswer

from .. import words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, verb
from ..waiting import SLACK, Progress

if TYPE_CHECKING:
    from hermesd.supervisor.control.client import Stream


@verb("drain", short_help="Begin no new turns.")
@click.option("--session", default="", help="Only this one.")
@click.option("--no-wait", is_flag=True, help="Return when no new turn begins any more; running ones go on.")
def command(options: Options, session: str, no_wait: bool) -> int:
    """Begin no new turns, and wait until those that run have ended. Messages are taken all the same and wait for
    "hermesctl undrain", or for the next start of hermesd.

    Exit status 0: nothing runs; 9: --timeout was over before, and the drain goes on.
    """
    params = {"session": session, "timeout_s": None if no_wait else options.timeout}
    with Daemon(options).stream("drain", params) as stream:
        result = _watch(stream, options.timeout, no_wait)
    if options.json:
        options.print_json(result)
    else:
        click.echo(_sentence(result, session or "hermesd"))
    if result["state"] == "lifted":
        return Exit.FAILED
    return Exit.DONE if result["state"] == "drained" or no_wait else Exit.TIMED_OUT


def _watch(stream: Stream, timeout: float | None, no_wait: bool) -> dict[str, Any]:
    progress = Progress()
    deadline = None if timeout is None else time.monotonic() + timeout + SLACK
    try:
        while (event := stream.next(deadline)) is not None:
            busy = int(event["busy"])
            if no_wait:
                state = "draining" if busy else "drained"
                return {"schema": 1, "state": state, "running": busy, "waiting": 0}
            left = f", {float(event['left_s']):.0f} s left" if timeout is not None else ""
            progress.show(f"draining: {words.count(busy, 'turn')} still running{left}")
    except NoAnswer as error:
        raise CommandError(
            Exit.TIMED_OUT, "timed_out", "no answer in time; the drain goes on", "hermesctl status"
        ) from error
    except KeyboardInterrupt:
        progress.close()
        click.echo("no longer watching; the drain goes on until hermesctl undrain", err=True)
        raise
    finally:
        progress.close()
    assert stream.result is not None
    return stream.result


def _sentence(result: dict[str, Any], who: str) -> str:
    waiting = f"; {words.count(result['waiting'], 'message')} waiting" if result["waiting"] else ""
    match result["state"]:
        case "drained":
            return f"{who} is drained: nothing runs{waiting} (hermesctl undrain lifts it)"
        case "lifted":
            return f"the drain of {who} was lifted meanwhile; {words.count(result['running'], 'turn')} running"
        case _:
            return f"{who} is draining: {words.count(result['running'], 'turn')} still running{waiting}"
