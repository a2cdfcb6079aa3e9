"""``hermesctl restart``: new workers for sessions, or a new hermesd on the same workers."""

from __future__ import annotations

import click

from ..daemon import Daemon
from ..options import Options, confirm, usage, verb
from ..outcomes import report, report_begun
from ..renewal import restart_supervisor
from ..waiting import of_sessions


@verb("restart", short_help="New workers for sessions, or hermesd anew.")
@click.argument("sessions", nargs=-1)
@click.option("--supervisor", is_flag=True, help="hermesd itself, on the workers that there are.")
@click.option("--no-wait", is_flag=True, help="Return when it has begun.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(options: Options, sessions: tuple[str, ...], supervisor: bool, no_wait: bool, yes: bool) -> int:
    """End the workers of SESSIONS and start new ones, which have their agents when this returns.

    Running turns are interrupted at once; with --timeout they may go on for that long before. Platform connections
    stay. Exit status 9: a new worker is still starting. More than one session is asked about.

    With --supervisor it is the other way round: hermesd executes itself anew, for a configuration or a version that
    needs it; its workers live on and their running turns go on. Platforms are reconnected.
    """
    if supervisor == bool(sessions):
        usage("name SESSIONS, or --supervisor")
    if supervisor:
        return restart_supervisor(options, no_wait)
    if len(sessions) > 1:
        confirm(f"Restart {len(sessions)} sessions?", yes)
    with Daemon(options).stream("restart", {"sessions": list(sessions), "timeout_s": options.timeout}) as stream:
        not_found, result = of_sessions(stream, no_wait)
    if result is None:
        return report_begun(options, "restarting", len(set(sessions)), not_found)
    return report(options, result, "restarted")
