"""Which processes are ours to show, and whether a given one lies below a worker."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hermesd.ipc.ids import WorkerId

from .processes import Processes, Seen
from .worker import Worker


def _choose() -> Processes:
    if sys.platform == "linux":
        from .processes_by_proc import ProcProcesses

        return ProcProcesses()
    else:
        from .processes_by_psutil import PsutilProcesses

        return PsutilProcesses()


PROCESSES = _choose()
"""By /proc where there is one, else by psutil."""


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
    """The processes of every worker, of one scan. Takes some 10 ms, so not on the event loop."""
    seen = PROCESSES.scan()
    return {worker.id: tree_of(worker, seen) for worker in workers}


def is_contained(pid: int, roots: Collection[int], instance: str) -> bool:
    """Whether a process runs inside one of this instance's containers, by any of three proofs.

    ``roots``: the keepers, and the workers, for one whose keeper is dead is no longer below it.

    An agent can clear its environment, or start a process that is nobody's child any more; it cannot do both and leave
    its cgroup or its subreaper as well.
    """
    if PROCESSES.carries(pid, instance):
        return True
    # Gone, another user's, or without a mark: the chain of parents decides.
    passed: set[int] = set()
    while pid > 1 and pid not in passed:
        if pid in roots:
            return True
        passed.add(pid)
        pid = PROCESSES.parent_of(pid) or 0
    return False


def tree_of(worker: Worker, seen: Mapping[int, Seen]) -> list[ProcessLine]:
    """The worker's processes, by pid."""
    roots = {server.pid: server.name for server in worker.servers if server.pid}
    members = worker.container.members() if worker.container is not None else ()
    return [
        ProcessLine(
            pid=pid,
            parent=process.parent,
            command=PROCESSES.command_of(pid) or "?",
            state=process.state,
            cpu_seconds=process.cpu_seconds,
            memory_bytes=PROCESSES.memory_of(pid),
            server=_server_of(pid, roots, seen),
        )
        for pid in sorted(set(members))
        if (process := seen.get(pid)) is not None
    ]


def _server_of(pid: int, roots: Mapping[int, str], seen: Mapping[int, Seen]) -> str:
    passed: set[int] = set()
    while pid not in passed and (process := seen.get(pid)) is not None:
        if pid in roots:
            return roots[pid]
        passed.add(pid)
        pid = process.parent
    return ""
