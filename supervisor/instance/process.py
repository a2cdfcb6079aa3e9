"""Which process is meant: a pid alone is used again by another process sooner or later."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def start_ticks(pid: int) -> int:
    """Clock ticks from boot to the start of a process; 0 when it is not there.

    Without /proc they are hundredths of a second since 1970: they mean something on one machine only, as a pid does.
    """
    if sys.platform != "linux":
        return start_by_psutil(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # The second field is the command in brackets, which may itself hold blanks and brackets.
    fields = text.rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def start_by_psutil(pid: int) -> int:
    """`start_ticks` for systems without /proc; 0 also for a process that this user may not look at."""
    # hermesctl must say its first word soon, and where there is a /proc it needs none of this.
    import psutil

    try:
        ticks: int = round(psutil.Process(pid).create_time() * 100)
        return ticks
    except (psutil.Error, ValueError):
        return 0


def boot_id() -> str:
    """Changes with every boot; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def is_same(pid: int, ticks: int, boot: str) -> bool:
    """Whether the process that was noted down with these three still lives. What is 0 or "" is not compared."""
    if pid <= 0 or (boot and boot != boot_id()):
        return False
    if found := start_ticks(pid):
        return not ticks or found == ticks
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and another user's
    return True
