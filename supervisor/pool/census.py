"""Which processes are ours to show, and whether a given one lies below a worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hermesd.ipc.ids import WorkerId
from hermesd.workers.containment import naming, procfs, tag
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.containment.identity import stat_fields
from hermesd.workers.containment.usage import memory_of

from .worker import Worker


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """One process of a worker's tree. ``server`` names the MCP server it belongs to, "" for the agent's own."""

    pid: int
    parent: int
    command: str
    state: str
    cpu_seconds: float
    memory_bytes: int
    server: str


def trees(workers: Iterable[Worker]) -> dict[WorkerId, list[ProcessLine]]:
    """The processes of every worker, of one scan of /proc. Takes some 10 ms, so not on the event loop."""
    snapshot = procfs.Snapshot.take()
    return {worker.id: tree_of(worker, snapshot) for worker in workers}


def is_contained(pid: int, keeper: int, instance: str) -> bool:
    """Whether a process runs inside one of this instance's containers, by any of three proofs.

    An agent can clear its environment, or start a process that is nobody's child any more; it cannot do both and leave
    its cgroup or its subreaper as well.
    """
    try:
        if f"/{naming.instance_name(instance)}/" in Path(f"/proc/{pid}/cgroup").read_text("ascii", "replace") + "/":
            return True
        if tag.parse_tag(tag.read_tag(pid)).instance == instance:
            return True
    except (OSError, ContainmentError):
        pass  # gone, another user's, or without a tag: the chain of parents decides
    seen: set[int] = set()
    while pid > 1 and pid not in seen:
        if pid == keeper:
            return True
        seen.add(pid)
        fields = stat_fields(pid)
        if fields is None:
            return False
        pid = int(fields[1])
    return False


def tree_of(worker: Worker, snapshot: procfs.Snapshot) -> list[ProcessLine]:
    """The worker's processes, parents before children."""
    roots = {server.pid: server.name for server in worker.servers if server.pid}
    members = set(worker.container.members())
    lines = []
    for pid in sorted(members):
        process = snapshot.processes.get(pid)
        if process is None:
            continue
        lines.append(
            ProcessLine(
                pid=pid,
                parent=process.parent,
                command=procfs.command_line(pid) or "?",
                state=process.state,
                cpu_seconds=process.cpu * procfs.TICK,
                memory_bytes=memory_of([pid], proportional=True),
                server=_server_of(pid, roots, snapshot),
            )
        )
    return lines


def _server_of(pid: int, roots: dict[int, str], snapshot: procfs.Snapshot) -> str:
    seen: set[int] = set()
    while pid not in seen and (process := snapshot.processes.get(pid)) is not None:
        if pid in roots:
            return roots[pid]
        seen.add(pid)
        pid = process.parent
    return ""


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process, its children not counted; 0.0 for one that is gone."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) * procfs.TICK if fields is not None else 0.0
