"""The checks of ``hermesctl doctor`` that need no running hermesd. None of them changes anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hermesd.supervisor.findings import BETTER_CONTAINMENT, finding, of_host, of_limits, of_survivors

if TYPE_CHECKING:
    from hermesd.supervisor.config.errors import Problem
    from hermesd.supervisor.control.shapes import Finding
    from hermesd.supervisor.instance.lock import Standing
    from hermesd.supervisor.instance.paths import Paths

FEWEST_DESCRIPTORS = 1024
"""A worker costs hermesd and its keeper about ten together."""


def of_home(paths: Paths) -> Iterator[Finding]:
    """Whether the home is there and closed to others."""
    if not paths.home.is_dir():
        yield finding("home", "warning", f"there is no home at {paths.home}", "hermesd makes it at its first start")
        return
    if not os.access(paths.home, os.R_OK | os.W_OK | os.X_OK):
        yield finding("home", "error", f"this user may not write to {paths.home}", f"chown it to uid {os.getuid()}")
        return
    if not paths.ours.exists():
        yield finding("home", "ok", f"hermesd has never run with the home {paths.home}")
        return
    faults = 0
    for path in (paths.ours, paths.run, paths.logs, paths.sockets, paths.journal, paths.home / ".env"):
        found = _lstat(path)
        if found is None:
            continue
        if found.st_uid != os.geteuid():
            faults += 1
            message = f"{path} belongs to uid {found.st_uid}, not to {os.geteuid()}"
            yield finding("permissions", "error", message, f"chown {os.geteuid()} {path}", path)
        elif stat.S_IMODE(found.st_mode) & 0o077:
            faults += 1
            mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
            message = f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o})"
            yield finding("permissions", "warning", message, f"chmod {mode} {path}", path)
    if not faults:
        yield finding("permissions", "ok", f"{paths.ours} is closed to other users")


def of_pid_file(paths: Paths, standing: Standing) -> Iterator[Finding]:
    """Whether the PID file tells the truth; the lock knows it."""
    match standing.state:
        case "running" if standing.record is not None:
            yield finding("pid_file", "ok", f"hermesd runs as process {standing.pid} and holds its lock")
        case "running":
            message = "a process holds the lock, and no file says which one"
            yield finding("pid_file", "warning", message, f"fuser -v {paths.lock}", paths.pid_file)
        case "stale":
            message = "a dead hermesd has left its PID file" + (f" (process {standing.pid})" if standing.pid else "")
            yield finding("pid_file", "warning", message, "hermesd --daemon, which clears it away", paths.pid_file)
        case _:
            yield finding("pid_file", "ok", "hermesd is not running, and nothing says that it is")


def of_descriptors() -> Iterator[Finding]:
    """Whether the system allows as many descriptors as hermesd needs."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_DESCRIPTORS:
        fix = f"ulimit -n {FEWEST_DESCRIPTORS}" if hard >= FEWEST_DESCRIPTORS else "LimitNOFILE=65536 in the unit"
        yield finding("descriptors", "warning", f"a process may have {soft} open files, which is few", fix)
    else:
        yield finding("descriptors", "ok", f"a process may have {soft} open files")


def of_configuration(home: Path) -> Iterator[Finding]:
    """Whether hermesd would start with the configuration as it is."""
    from . import configfile

    report = configfile.check(home, None, everything=False)
    for severity, problem in report.problems:
        yield _of_problem(problem, "ok" if severity == "note" else severity)
    if not any(severity in ("error", "warning") for severity, _ in report.problems):
        files = ", ".join(str(file) for file in report.files) or "all defaults, for there is no file"
        yield finding("configuration", "ok", f"the configuration is in order ({files})")


def _of_problem(problem: Problem, severity: str) -> Finding:
    return finding("configuration", severity, problem.sentence, problem.fix)


def of_containment(instance: str) -> Iterator[Finding]:
    """Which containment a hermesd started from here would get."""
    from hermesd.workers.containment import ContainmentError, ceiling, choose

    try:
        choice = choose(instance)
    except ContainmentError as error:
        yield finding("containment", "error", str(error))
        return
    refused = "".join(f"; not {name}: {reason}" for name, reason in choice.refused)
    message = f"containment would be {choice.containment.name}{refused}"
    yield finding("containment", "warning" if refused else "ok", message, BETTER_CONTAINMENT if refused else "")
    yield from of_survivors(choice.containment.name)
    yield from of_limits(*ceiling.ways(instance, getattr(choice.containment, "base", "")))


def of_machine(home: Path) -> Iterator[Finding]:
    """Load, memory and disk as this process sees them."""
    from hermesd.supervisor import host

    yield from of_host(host.figures(home), home)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
