"""The machine that hermesd runs on: cores, load, memory, and the disk of its home. The kernel's figures, by psutil."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from .control.shapes import HostFigures


def figures(home: Path) -> HostFigures:
    """Figures of now. Takes half a millisecond; not on the event loop, for a network's disk may not answer.

    ``cpu_percent`` is None: it takes two documents, by their ``cpu_seconds`` and ``monotonic_s``.
    """
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(_existing(home)))
    return {
        "cores": psutil.cpu_count() or 1,
        "load": os.getloadavg()[0],
        "cpu_percent": None,
        "cpu_seconds": busy_seconds(),
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "disk_total_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "monotonic_s": time.monotonic(),
    }


def busy_seconds() -> float:
    """CPU time of all cores together since boot, idle time and waiting for disks not counted."""
    times = psutil.cpu_times()
    # "user" holds "guest" already; what a system does not count is not there.
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def _existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that is there: a home that is yet to be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
