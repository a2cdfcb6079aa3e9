"""The files that say what was found when a worker was judged hung, and for how long they and stack dumps are kept."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from hermesd.workers.containment.identity import Identity
from hermesd.workers.containment.kernel_view import describe

from .worker import Worker

KEPT_FILES = 50
KEPT_SECONDS = 7 * 24 * 3600.0


def name_of(worker: str, at: float) -> str:
    """``w3-1f0c-20261122T221530Z.txt``; ``at`` in Unix seconds."""
    return f"{worker}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}.txt"


def facts_of(worker: Worker, at: float, now: float) -> list[str]:
    """What hermesd itself knows, at ``at`` (Unix) and ``now`` (monotonic) seconds. Read on the event loop."""
    silence = worker.silence
    lines = [
        f"worker      {worker.id}, pid {worker.pid}",
        f"session     {worker.session or 'none, it was a spare'}",
        f"turn        {worker.turn or 'none'}",
        f"judged      {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(at))}",
        f"last heard  {now - worker.last_heard:.1f} s before",
    ]
    if silence is not None:
        lines += [
            f"silent for  {silence.unheard:.1f} s in which hermesd listened, {silence.still:.1f} s of them without CPU",
            f"CPU         {worker.told_cpu:.2f} s by its last heartbeat, {silence.used:.2f} s since",
        ]
    lines.append(f"event loop  had last run {worker.loop_age:.1f} s before the last heartbeat")
    return lines


def kernel_facts(pid: int, start_ticks: int) -> list[str]:
    """What the kernel says. May block: call it in a thread."""
    return describe(Identity(pid, start_ticks))


def write(path: Path, lines: Iterable[str]) -> None:
    """A new file, 0600. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def add_stacks(path: Path, stacks: Path, exit_line: str) -> None:
    """How it ended, and the Python stacks that it wrote before, to the end of the evidence. Raises OSError."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{exit_line}\n\nPython stacks\n")
        if not stacks.exists() or not stacks.stat().st_size:
            file.write("  none: the process did not run again before it was killed\n")
            return
        file.write(f"  of {stacks}\n")
        file.writelines(f"  {line}\n" for line in stacks.read_text("utf-8", "replace").splitlines())


def prune(directory: Path, now: float, spare: Collection[str] = ()) -> int:
    """Remove what is empty or older than `KEPT_SECONDS`, and all but the newest `KEPT_FILES`; returns how many.

    ``now``: Unix seconds. ``spare``: names of files that are in use.
    """
    if not directory.is_dir():
        return 0
    found: list[tuple[float, Path]] = []
    old: list[Path] = []
    for path in directory.glob("*.txt"):
        with contextlib.suppress(FileNotFoundError):
            if path.name in spare:
                continue
            seen = path.lstat()
            if seen.st_size:
                found.append((seen.st_mtime, path))
            else:
                old.append(path)
    found.sort(reverse=True)
    old += [path for rank, (at, path) in enumerate(found) if rank >= KEPT_FILES or now - at > KEPT_SECONDS]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
