"""Processes by psutil, for systems without Linux's /proc: macOS, the BSDs, Windows."""

from __future__ import annotations

import psutil

from hermesd.workers.containment import tag
from hermesd.workers.containment.errors import TagError

from .processes import Seen

_LETTERS = {
    psutil.STATUS_RUNNING: "R",
    psutil.STATUS_SLEEPING: "S",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "t",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DEAD: "X",
    psutil.STATUS_IDLE: "I",
}

_COMMAND_LENGTH = 200


class PsutilProcesses:
    """Implements `hermesd.supervisor.pool.processes.Processes`."""

    def scan(self) -> dict[int, Seen]:
        found = {}
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    pid, parent = process.pid, process.ppid()
                    found[pid] = Seen(pid, parent, _letter(process), _cpu_with_children(process))
            except psutil.Error:
                continue  # it has ended meanwhile, or it is another user's and its figures are not ours to see
        return found

    def parent_of(self, pid: int) -> int | None:
        try:
            return int(psutil.Process(pid).ppid())
        except psutil.Error:
            return None

    def own_cpu_seconds(self, pid: int) -> float:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def memory_of(self, pid: int) -> int:
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def command_of(self, pid: int) -> str:
        try:
            words = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            return ""
        return words if len(words) <= _COMMAND_LENGTH else words[: _COMMAND_LENGTH - 1] + "…"

    def carries(self, pid: int, instance: str) -> bool:
        try:
            return tag.parse_tag(psutil.Process(pid).environ().get(tag.VARIABLE, "")).instance == instance
        except (psutil.Error, TagError):
            return False


def _letter(process: psutil.Process) -> str:
    return _LETTERS.get(process.status(), "?")


def _cpu_with_children(process: psutil.Process) -> float:
    # What has no figure for its children, as on macOS, says 0.
    return float(sum(process.cpu_times()[:4]))
