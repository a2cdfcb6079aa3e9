"""What ``doctor`` says alike of a running hermesd and of one that is stopped: the machine, and what containment misses.

Used by the control handlers and by ``hermesctl doctor``, whose first line must come soon: nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .control.shapes import Finding, HostFigures, LeftoverRow

BETTER_CONTAINMENT = (
    "run hermesd where it may make cgroups: systemd-run --user --scope -p Delegate=yes hermesd, or as a service "
    "with Delegate=yes"
)

MEMORY_SHARE = 0.05
"""Of the machine's memory; less available than that and the kernel is about to choose whom it kills."""

DISK_SHARE, DISK_LEAST, DISK_ENOUGH = 0.05, 256 << 20, 5 << 30
"""A disk is nearly full below its 20th part; always below the second of these, and never above the third."""


def finding(id: str, severity: str, message: str, fix: str = "", path: Path | None = None) -> Finding:  # noqa: A002
    """``severity``: "ok", "warning" or "error"."""
    found: Finding = {"id": id, "severity": severity, "message": message, "fix": fix}
    if path is not None:
        found["path"] = str(path)
    return found


def of_host(host: HostFigures, home: Path) -> Iterator[Finding]:
    """The machine: load, memory, the disk of the home."""
    cores = host["cores"]
    yield finding("load", "ok", f"load {host['load']:.2f} on {cores} core{'' if cores == 1 else 's'}")
    available, total = host["memory_available_bytes"], host["memory_total_bytes"]
    text = f"{_size(available)} of {_size(total)} of memory are available"
    if available < total * MEMORY_SHARE:
        fix = "hermesctl top --sort mem shows who uses it; a smaller hermesd.workers.max bounds it"
        yield finding("memory", "warning", f"the memory is nearly full: {text}", fix)
    else:
        yield finding("memory", "ok", text)
    free, total = host["disk_free_bytes"], host["disk_total_bytes"]
    text = f"{_size(free)} of {_size(total)} are free on the disk of {home}"
    if free < max(DISK_LEAST, min(total * DISK_SHARE, DISK_ENOUGH)):
        fix = "free some: with a full disk hermesd accepts no messages"
        yield finding("disk", "warning", f"the disk is nearly full: {text}", fix, home)
    else:
        yield finding("disk", "ok", text)


def of_survivors(containment: str) -> Iterator[Finding]:
    """What may outlive a hermesd that is killed together with its keeper, and who ends it when."""
    later = "the next start of hermesd, or hermesctl doctor --fix, ends"
    if containment == "cgroup":
        text = (
            "when hermesd and its keeper are killed together, the keeper's guard ends all that is in their cgroups; "
            "when the guard is killed too, each worker ends itself with its cgroup, but one that C code keeps busy "
            f"ends with its MCP servers alone, and {later} what those have forked"
        )
    else:
        text = (
            f"when hermesd and its keeper are killed together, the keeper's guard ends what the instance's tag leads "
            f"to; when the guard is killed too, each worker ends itself with its MCP servers, and {later} what those "
            "have forked; without cgroups all of these miss a process that has cleared its environment and lost its "
            "parent, for nothing tells it from a foreign one"
        )
    yield finding("survivors", "ok", text)


def of_limits(memory: str, tasks: str) -> Iterator[Finding]:
    """Which limits of a worker the kernel keeps, and by what; "" for those that hermesd looks after itself."""
    polled = "polled every 250 ms while a turn runs, for no cgroup with that controller can be made here"
    kept = "kept by the kernel ({})"
    yield finding(
        "limits",
        "ok",
        f"memory_hard is {kept.format(memory) if memory else polled}; "
        f"processes during a turn are {kept.format(tasks) if tasks else polled}; "
        "memory_soft, max_processes, max_age and max_turns_per_worker are looked at between turns; "
        "turn_timeout, hang_timeout and idle_timeout are polled by hermesd",
    )


def of_leftovers(rows: list[LeftoverRow]) -> Finding:
    """What an earlier hermesd has left, in one line; the rows are shown below it."""
    if not rows:
        return finding("leftovers", "ok", "nothing is left of an earlier hermesd")
    message = f"left of an earlier hermesd: {counted(rows)}"
    memory = sum(row.get("memory_bytes", 0) for row in rows)
    if memory:
        message += f" with {_size(memory)} of memory"
    return finding("leftovers", "warning", message, "hermesctl doctor --fix")


def counted(rows: list[LeftoverRow]) -> str:
    """``2 processes, 1 cgroup and 1 socket``."""
    plurals = {"process": "processes", "directory": "directories"}
    parts = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        number = sum(row["kind"] == kind for row in rows)
        parts.append(f"{number} {kind if number == 1 else plurals.get(kind, kind + 's')}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _size(count: int) -> str:
    unit, step = ("G", 1 << 30) if count >= 1 << 30 else ("M", 1 << 20)
    return f"{count / step:.1f}{unit}"
