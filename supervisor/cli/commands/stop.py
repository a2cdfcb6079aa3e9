"""``hermesctl stop``: the daemon, or the workers of some sessions."""

from __future__ import annotations

import time

import click

from hermesd.supervisor.control.errors import Hangup

from .. import words
from ..daemon import Daemon
from ..ending import Ending
from ..exits import CommandError, Exit
from ..options import Options, confirm, hint, verb
from ..outcomes import report, report_begun
from ..waiting import SLACK, of_sessions, watch


@verb("stop", short_help="Stop hermesd or some sessions.")
@click.argument("sessions", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Return when hermesd has begun to stop.")
@click.option("--if-running", is_flag=True, help="Exit 0 when it is not running.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(options: Options, sessions: tuple[str, ...], no_wait: bool, if_running: bool, yes: bool) -> int:
    """Drain and end hermesd; with SESSIONS only their workers, whose conversations go on with the next message.

    Of hermesd, running turns may end first; --timeout is how long the whole may take (default: hermesd.stop_budget of
    its configuration). Then what still runs is killed, and the answer says how many processes that were.

    Of SESSIONS, running turns are interrupted at once; with --timeout they may go on for that long before. More than
    one session is asked about.
    """
    daemon = Daemon(options)
    if len(sessions) > 1:
        confirm(f"Stop {len(sessions)} sessions?", yes)
    try:
        if sessions:
            return _stop_sessions(options, daemon, sessions, no_wait)
        return _stop_daemon(options, daemon, no_wait)
    except CommandError as error:
        if if_running and error.status is Exit.NOT_RUNNING:
            hint("hermesd is not running")
            if options.json:
                options.print_json({"schema": 1, "state": "stopped"})
            return Exit.DONE
        raise


def _stop_sessions(options: Options, daemon: Daemon, sessions: tuple[str, ...], no_wait: bool) -> int:
    params = {"sessions": list(sessions), "timeout_s": options.timeout}
    with daemon.stream("stop", params) as stream:
        not_found, result = of_sessions(stream, no_wait)
    if result is None:
        return report_begun(options, "stopping", len(set(sessions)), not_found)
    return report(options, result, "stopped")


def _stop_daemon(options: Options, daemon: Daemon, no_wait: bool) -> int:
    began = time.monotonic()
    with Ending(daemon.describe) as ending:  # looks before asking: afterwards the pid may be nobody's
        result = None
        with daemon.stream("stop", {"timeout_s": options.timeout}) as stream:
            try:
                deadline = watch(stream, options.timeout, no_wait)
                result = stream.result
            except Hangup:  # it was faster than its last word
                deadline = time.monotonic() + SLACK
        if no_wait:
            return report_begun(options, "stopping", 1, ())
        ending.wait(deadline)
    took = time.monotonic() - began
    killed = int((result or {}).get("killed", 0))
    if options.json:
        options.print_json({"schema": 1, "state": "stopped", "pid": ending.pid, "killed": killed, "took_s": took})
    else:
        click.echo(f"hermesd (pid {ending.pid}) has stopped after {took:.1f} s")
        if killed:
            click.echo(f"{words.count(killed, 'process')} had to be killed")
    return Exit.DONE
