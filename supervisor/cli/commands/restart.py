"""``hermesctl restart``: new workers for sessions, or a new hermesd on the same workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from ..daemon import Daemon
from ..options import Options, confirm, usage, verb
from ..outcomes import report
from ..renewal import restart_supervisor
from ..waiting import watch

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import OutcomesDocument


@verb("restart", short_help="New workers for sessions, or hermesd anew.")
@click.argument("sessions", nargs=-1)
@click.option("--supervisor", is_flag=True, help="hermesd itself, on the workers that there are.")
@click.option("--no-wait", is_flag=True, help="Return when it has begun.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(options: Options, sessions: tuple[str, ...], supervisor: bool, no_wait: bool, yes: bool) -> int:
    """End the workers of SESSIONS, after their running turns, and start new ones. Platform connections stay.

    With --supervisor it is the other way round: hermesd executes itself anew, for a configuration or a version that
    needs it; its workers live on and their running turns go on. Platforms are reconnected.

    --timeout is how long the whole may take. More than one session is asked about.
    """
    if supervisor == bool(sessions):
        usage("name SESSIONS, or --supervisor")
    if supervisor:
        return restart_supervisor(options, no_wait)
    if len(sessions) > 1:
        confirm(f"Restart {len(sessions)} sessions?", yes)
    with Daemon(options).stream("restart", {"sessions": list(sessions), "timeout_s": options.timeout}) as stream:
        watch(stream, options.timeout, no_wait)
        result = stream.result
    if result is None:
        click.echo("restarting", err=options.json)
        return 0
    return report(options, cast("OutcomesDocument", result), "restarted")
