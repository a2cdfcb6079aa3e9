"""``hermesd``: in the foreground by default, in the background (``--daemon``), on its own terminal (``--console``).

Exit status: 0 stopped as asked, 1 the start failed, 2 usage, 73 another hermesd holds this home, 75 restart wanted,
78 the configuration (or a newer journal) must be mended by a person.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hermesd.ipc.version import VERSION
from hermesd.supervisor.instance import daemonize
from hermesd.supervisor.instance.errors import AlreadyRunning, DaemonNotStarted, InstanceError
from hermesd.supervisor.instance.paths import Paths, paths_of, resolve_home

if TYPE_CHECKING:
    from hermesd.supervisor.app import App
    from hermesd.supervisor.config.errors import Problem
    from hermesd.supervisor.config.loader import Loaded
    from hermesd.supervisor.instance.daemonize import Readiness
    from hermesd.supervisor.logs import Limits
    from hermesd.supervisor.pool.launchers.claiming import Claims

EXIT_FAILED, EXIT_HELD, EXIT_CONFIG = 1, 73, 78

RESTART_IN_PLACE = -1
"""As `hermesd.supervisor.app` has it, which is not imported before it is needed."""

BACKGROUND = "HERMESD_BACKGROUND"
"""Set across an exec in place of a hermesd that was started by --daemon: it writes to no terminal."""

READY_SECONDS = 60.0

REPLACING_SECONDS = 900.0
"""More for --replace: the other hermesd may use its whole stop_budget, which only the new one reads."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home", type=click.Path(path_type=Path, readable=False), help="Home; default $HERMES_HOME or ~/.hermes."
)
@click.option(
    "--config", type=click.Path(path_type=Path, readable=False), help="Configuration in place of HOME/config.yaml."
)
@click.option("--console", is_flag=True, help="Talk to the agent here; lines from a pipe are answered one by one.")
@click.option("--daemon", is_flag=True, help="Return when hermesd is ready in the background, and print its pid.")
@click.option("--replace", is_flag=True, help="Stop the hermesd that holds this home, then start.")
@click.option("--check", is_flag=True, help="Check the configuration and exit.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False))
@click.version_option(VERSION, prog_name="hermesd", message="%(prog)s %(version)s")
def main(
    home: Path | None,
    config: Path | None,
    console: bool,
    daemon: bool,
    replace: bool,
    check: bool,
    log_level: str | None,
) -> None:
    """Supervise chat-driven AI agents, one worker process per conversation."""
    if console and daemon:
        raise click.UsageError("--console needs this terminal, --daemon leaves it: choose one")
    try:
        paths = paths_of(resolve_home(home, os.environ), os.environ)
    except InstanceError as error:
        click.echo(f"error: {error}\n  fix: name another with --home or HERMES_HOME", err=True)
        sys.exit(EXIT_FAILED)
    readiness = daemonize.Readiness.from_environment(os.environ)
    if daemon and readiness is None:
        sys.exit(_start_daemon(paths, READY_SECONDS + (REPLACING_SECONDS if replace else 0.0)))
    background = bool(os.environ.pop(BACKGROUND, "")) or readiness is not None
    status, text = _run(paths, config, console=console, replace=replace, check=check, log_level=log_level,
                        background=background, readiness=readiness)  # fmt: skip
    if status == RESTART_IN_PLACE:
        status, text = _exec_anew(background)
    if text and readiness is not None:
        readiness.failed(text)
    logging.shutdown()
    with contextlib.suppress(OSError):  # a daemon's stderr is a file, and its disk may be what is full
        if text:
            click.echo(text, err=True)
        sys.stdout.flush()
        sys.stderr.flush()
    # Not sys.exit: finalisation would wait for any thread that a platform's client library left behind.
    os._exit(status)


def _exec_anew(background: bool) -> tuple[int, str]:
    """Become the next life of hermesd: same pid, arguments and environment. Returns only what went wrong."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if background:
        os.environ[BACKGROUND] = "1"
    # What --replace was for has been done.
    command = [word for word in daemonize.same_program() if word != "--replace"]
    try:
        os.execv(command[0], command)
    except OSError as error:
        return EXIT_FAILED, f"error: cannot exec {command[0]} anew: {error.strerror}"


def _start_daemon(paths: Paths, timeout: float) -> int:
    try:
        paths.prepare_logs()
        pid = daemonize.start(daemonize.same_program(), paths.start_log, timeout, os.environ,
                              tell=partial(click.echo, err=True))  # fmt: skip
    except DaemonNotStarted as error:
        click.echo(str(error), err=True)
        return error.exit_status
    except InstanceError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_FAILED
    click.echo(pid)
    return 0


def _run(
    paths: Paths,
    config: Path | None,
    *,
    console: bool,
    replace: bool,
    check: bool,
    log_level: str | None,
    background: bool,
    readiness: Readiness | None,
) -> tuple[int, str]:
    """One life. Returns the exit status and, for a failure, what to say."""
    from hermesd.supervisor.config import errors as config_errors
    from hermesd.supervisor.config.loader import load
    from hermesd.supervisor.instance import keepers, lock, replacing
    from hermesd.supervisor.pool.launchers.claiming import claim_all
    from hermesd.supervisor.surroundings import interpreter_problem
    from hermesd.workers.containment import prctl

    # Tokens are read next: from here on another process of this user cannot read our memory or environment.
    prctl.set_dumpable(False)
    if problem := _problem_of(paths.home):
        return EXIT_FAILED, f"error: cannot use {paths.home} as home: {problem}"

    def with_level(loaded: Loaded) -> Loaded:
        return loaded.with_log_level(log_level.upper()) if log_level else loaded

    try:
        loaded = load(paths.home, config, os.environ)
    except config_errors.ConfigError as error:
        return EXIT_CONFIG, "\n".join([*map(_warning, error.warnings), str(error)])
    for warning in loaded.warnings:
        click.echo(_warning(warning), err=True)
    if check:
        return _check(loaded, paths.home)
    if (unfit := interpreter_problem(loaded)) is not None:
        return EXIT_CONFIG, unfit.render("error")
    loaded = with_level(loaded)
    try:
        paths.prepare()
        if replace:
            replacing.end_holder(paths, loaded.settings.hermesd.stop_budget_seconds)
        held = lock.acquire(paths)
    except AlreadyRunning as error:
        return EXIT_HELD, f"error: {error}\n  fix: hermesctl --home {paths.home} stop, or start with --replace"
    except InstanceError as error:
        return EXIT_FAILED, f"error: {error}"
    # Before anything heavy: keepers that an earlier hermesd left end everything when nobody comes in time.
    claims = claim_all(keepers.read(paths.keepers))
    try:
        return _serve(
            loaded, paths, lambda: with_level(load(paths.home, config, os.environ)), claims,
            console=console, background=background, readiness=readiness,
        )  # fmt: skip
    finally:
        claims.close()
        held.release()


def _problem_of(home: Path) -> str:
    """Why nothing can be read there; "" also where there is nothing yet."""
    try:
        found = home.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.strerror}\n  fix: choose another with --home or HERMES_HOME, or run hermesd as its owner"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if not os.access(home, os.R_OK | os.X_OK):
        return f"this user (uid {os.getuid()}) may not read it\n  fix: chown {os.getuid()} {home}; chmod u+rwx {home}"
    return ""


def _check(loaded: Loaded, home: Path) -> tuple[int, str]:
    from hermesd.supervisor.surroundings import examine

    wrong = False
    for severity, problem in examine(loaded, home):
        click.echo(problem.render(severity), err=True)
        wrong = wrong or severity == "error"
    if wrong:
        return EXIT_CONFIG, ""
    click.echo(f"the configuration of {home} is fine")
    return 0, ""


def _warning(problem: Problem) -> str:
    return problem.render("note" if problem.quiet else "warning")


def _serve(
    loaded: Loaded,
    paths: Paths,
    reread: Callable[[], Loaded],
    claims: Claims,
    *,
    console: bool,
    background: bool,
    readiness: Readiness | None,
) -> tuple[int, str]:
    import asyncio
    import faulthandler

    from hermesd.ipc.errors import IpcError
    from hermesd.supervisor import logs
    from hermesd.supervisor.app import App
    from hermesd.supervisor.control.errors import ControlError
    from hermesd.supervisor.errors import HermesdError
    from hermesd.supervisor.journal.errors import JournalError, NewerSchema
    from hermesd.supervisor.secrets import secrets_in

    faulthandler.enable()
    tail = logs.install(
        paths.logs / "hermesd.log",
        "WARNING" if console and loaded.settings.hermesd.log_level == "INFO" else loaded.settings.hermesd.log_level,
        logs.secrets_of(loaded.environ, secrets_in(loaded.settings)),
        terminal=not background,
        limits=_log_limits(loaded),
    )

    async def life() -> int:
        app = App(loaded, paths, tail=tail, reread=reread, claims=claims)
        app.watch_signals()
        try:
            await app.start()
        except BaseException:
            await app.give_up()
            raise
        if readiness is not None:
            readiness.ready(os.getpid(), _degraded(app))
        elif not console and not background:
            _greet(app)
        return await app.run(console=console)

    try:
        return asyncio.run(life()), ""
    except NewerSchema as error:
        return EXIT_CONFIG, f"error: {error}"
    except HermesdError as error:
        return error.exit_status, f"error: {error}"
    except (IpcError, ControlError, JournalError, InstanceError) as error:
        return EXIT_FAILED, f"error: {error}"


def _log_limits(loaded: Loaded) -> Limits:
    from hermesd.supervisor.logs import Limits

    logs = loaded.settings.hermesd.logs
    return Limits(logs.max_size_bytes, logs.backups, logs.session_size_bytes, logs.sessions)


def _degraded(app: App) -> list[str]:
    """What whoever started it should know although it is up."""
    from hermesd.supervisor.control.handlers.doctor import findings

    return [
        f"{found['severity']}: {found['message']}" + (f"\n  fix: {found['fix']}" if found["fix"] else "")
        for found in findings(app)
        if found["severity"] != "ok"
    ]


def _greet(app: object) -> None:
    """Tell who started it in a terminal what to do next."""
    from hermesd.supervisor.app import App

    assert isinstance(app, App)
    home = app.paths.home
    lines = [f"hermesd {VERSION} is up: pid {os.getpid()}, home {home}", "talk to it:"]
    api = app.platforms.live.get("api_server")
    if api is not None:
        lines.append(f"  curl -s {api.describe().get('url', '')}/v1/chat/completions \\")
        lines.append("    -H 'Content-Type: application/json' -H 'X-Hermes-Session-Id: me' \\")
        lines.append("""    -d '{"model": "hermes-agent", "messages": [{"role": "user", "content": "!help"}]}'""")
    lines += [
        f"  hermesctl --home {home} chat",
        "look at it:",
        f"  hermesctl --home {home} status",
        f"  hermesctl --home {home} ps --tree",
        f"  hermesctl --home {home} top",
        "stop it: Ctrl-C here, or",
        f"  hermesctl --home {home} stop",
    ]
    click.echo("\n".join(lines), err=True)


if __name__ == "__main__":
    main()
