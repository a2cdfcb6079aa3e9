"""Processes by Linux's /proc."""

from __future__ import annotations

from pathlib import Path

from hermesd.workers.containment import naming, procfs, tag
from hermesd.workers.containment.errors import TagError
from hermesd.workers.containment.identity import stat_fields
from hermesd.workers.containment.usage import memory_of

from .processes import Seen


class ProcProcesses:
    """Implements `hermesd.supervisor.pool.processes.Processes`."""

    def scan(self) -> dict[int, Seen]:
        return {
            process.pid: Seen(process.pid, process.parent, process.state, process.cpu * procfs.TICK)
            for process in procfs.Snapshot.take()
        }

    def parent_of(self, pid: int) -> int | None:
        fields = stat_fields(pid)
        return int(fields[1]) if fields is not None else None

    def own_cpu_seconds(self, pid: int) -> float:
        fields = stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) * procfs.TICK if fields is not None else 0.0

    def memory_of(self, pid: int) -> int:
        return memory_of([pid], proportional=True)

    def command_of(self, pid: int) -> str:
        return procfs.command_line(pid)

    def carries(self, pid: int, instance: str) -> bool:
        try:
            if f"/{naming.instance_name(instance)}/" in Path(f"/proc/{pid}/cgroup").read_text("ascii", "replace") + "/":
                return True
            return tag.parse_tag(tag.read_tag(pid)).instance == instance
        except (OSError, TagError):
            return False
