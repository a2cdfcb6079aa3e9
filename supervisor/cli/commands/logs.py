"""``hermesctl logs``: reads the log file itself, so it works when hermesd has stopped."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hermesd.supervisor.control import naming

from .. import logview, render, words
from ..daemon import Daemon
from ..exits import CommandError, Exit
from ..options import Options, hint, usage, verb


@verb("logs", short_help="The log.", json_help="The lines as they are: JSON Lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, through rotations, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many at first.")
@click.option("--session", default="", help="Of one session (its key, or an ending of it), worker or turn.")
@click.option(
    "--level", type=click.Choice(logview.LEVELS, case_sensitive=False), default="DEBUG", help="This one and above."
)
@click.option("--grep", metavar="REGEX", help="Whose message fits.")
@click.option("--since", metavar="10m|TIME", help="A duration, or a time such as 2026-11-22T18:00.")
def command(
    options: Options, follow: bool, lines: int, session: str, level: str, grep: str | None, since: str | None
) -> None:
    """The log, also of a hermesd that has stopped. With --json its lines as they are (JSON Lines).

    With --since and without -n everything from that time on is shown. A session's lines come from its own file, which
    reaches further back than the log of all.
    """
    daemon = Daemon(options)
    path = daemon.log_file
    if session:
        session, path = _meant(session, daemon)
    choice = logview.Choice(level.upper(), session, _pattern(grep), _moment(since))
    if since and click.get_current_context().get_parameter_source("lines") is click.core.ParameterSource.DEFAULT:
        lines = 1 << 62
    if not follow and not any(logview.rotated(path)):
        raise CommandError(Exit.FAILED, "no_log", f"there is no log at {path}", "is --home right? hermesctl status")
    _show(options, path, choice, lines, follow)


def _meant(name: str, daemon: Daemon) -> tuple[str, Path]:
    """What is named, a session by its whole key, and the file to read."""
    own = logview.with_own_log(daemon.paths.session_logs)
    found = naming.find(name, own)
    if not found:
        found = logview.named_in(daemon.log_file, name)
    if len(found) > 1:
        raise CommandError(Exit.USAGE, "usage", naming.ambiguous(name, found), naming.MORE)
    key = found[0] if found else name
    return key, own.get(key, daemon.log_file)


def _show(options: Options, path: Path, choice: logview.Choice, lines: int, follow: bool) -> None:
    paint = options.paint

    def show(line: dict[str, Any]) -> None:
        if options.json:
            render.json_line(line)
        else:
            click.echo(logview.text_line(line, paint))

    tail = logview.Tail(path)
    try:
        shown = logview.last(path, choice, lines, tail)
        for line in shown:
            show(line)
        if not shown and choice.session and lines and not follow:
            _check_known(path, choice.session)
        if follow:
            if not path.exists():
                hint(f"waiting for {path}")
            for line in tail.follow():
                if choice.wants(line):
                    show(line)
    except PermissionError as error:
        raise CommandError(Exit.NOT_ALLOWED, "denied", f"cannot read {path}: {error.strerror}") from error
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        tail.close()


def _check_known(path: Path, name: str) -> None:
    """Raises `CommandError` where no line at all is about what was named."""
    if not logview.last(path, logview.Choice(session=name), 1):
        keys = {str(line.get("session", "")) for line in logview.last(path, logview.Choice(), 1 << 62)} - {""}
        fix = naming.did_you_mean(naming.near(name, keys)) or "hermesctl sessions list"
        raise CommandError(Exit.FAILED, "not_found", f"no line of the log is about {name}", fix)


def _pattern(grep: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(grep) if grep else None
    except re.error as error:
        usage(f"--grep {grep!r} is not a regular expression: {error}")


def _moment(since: str | None) -> datetime | None:
    if not since:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=words.parse_duration(since))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        usage(f"--since {since!r} is neither a duration (10m, 1h30m) nor a time (2026-11-22T18:00)")
    return moment if moment.tzinfo else moment.astimezone()
