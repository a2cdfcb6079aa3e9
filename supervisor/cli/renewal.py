"""``hermesctl restart --supervisor``: asks hermesd to execute itself anew and waits for its next life."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from . import words
from .daemon import Daemon, Sight
from .exits import CommandError, Exit
from .options import Options
from .waiting import Progress

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import RestartDocument

WAIT_SECONDS = 60.0
"""For the next life to answer, unless --timeout says otherwise. It is there within two seconds on an idle machine."""

STEP = 0.05  # seconds between looks; nothing tells of a hermesd that starts

GONE_LOOKS = 10
"""Looks in a row at which nobody holds the lock: between two lives it is free for a moment."""


def restart_supervisor(options: Options, no_wait: bool) -> int:
    """Prints what became of it. Raises `CommandError`."""
    daemon = Daemon(options)
    began = time.monotonic()
    before: RestartDocument = daemon.ask("restart.supervisor")  # type: ignore[assignment]
    if no_wait:
        if options.json:
            options.print_json({"schema": 1, "state": "restarting", "pid": before["pid"]})
        else:
            click.echo("restarting")
        return Exit.DONE
    status = _wait(daemon, before, began + (WAIT_SECONDS if options.timeout is None else options.timeout))
    took, kept = time.monotonic() - began, int(status["workers"]["adopted"])
    if options.json:
        options.print_json(
            {"schema": 1, "state": status["state"], "pid": status["pid"], "workers_kept": kept,
             "workers_before": before["workers"], "took_s": took}
        )  # fmt: skip
    else:
        of = f" of {before['workers']}" if kept != before["workers"] else ""
        click.echo(f"hermesd (pid {status['pid']}) is up again after {took:.1f} s; {kept}{of} "
                   f"{'worker was' if before['workers'] == 1 else 'workers were'} kept")  # fmt: skip
    return Exit.DONE


def _wait(daemon: Daemon, before: RestartDocument, deadline: float) -> dict[str, Any]:
    """The status of the next life."""
    progress = Progress()
    gone = 0
    try:
        while time.monotonic() < deadline:
            found = daemon.status()
            if isinstance(found, Sight):
                gone = gone + 1 if found.state in ("stopped", "dead") and not _lives(before["pid"]) else 0
                if gone >= GONE_LOOKS:
                    raise CommandError(
                        Exit.FAILED, "failed", "hermesd ended and did not come back", "hermesctl logs, hermesd --check"
                    )
            elif found["started_at"] != before["started_at"] and found["state"] in ("running", "degraded", "draining"):
                return found
            progress.show(f"waiting for process {words.safe(before['pid'])}")
            time.sleep(STEP)
    finally:
        progress.close()
    raise CommandError(Exit.TIMED_OUT, "timed_out", "hermesd is not up again yet", "hermesctl status")


def _lives(pid: int) -> bool:
    from .daemon import process_state

    return process_state(pid) is not None
