"""What an earlier life of an instance left behind: found by tag and by cgroup, never by what a process looks like.

Independent of the strategy in use, since the earlier life may have used another one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from . import ceiling, cgroupfs, naming
from .contract import Leftover
from .errors import LeftAlive, Unsupported
from .identity import Identity, is_dead, open_pidfd, send
from .procfs import Process, Snapshot, command_line
from .tag import check_instance, read_tag
from .usage import age, memory_of


def find(instance: str, spare: Iterable[int] = ()) -> list[Leftover]:
    """What is left, without touching it (for ``hermesctl doctor``).

    ``spare``: processes that are in use, with everything below them. The caller itself is always spared, but not what
    is below it: an instance that is running already must name its keeper.
    """
    return [_describe(process, proof) for process, proof in _search(instance, frozenset(spare), _places(instance))]


def sweep_round(instance: str, spare: Iterable[int] = ()) -> list[Leftover]:
    """Kill what is left, remove its empty cgroups, and return what was found alive; an empty list means clean."""
    places = _places(instance)
    found = _search(instance, frozenset(spare), places)
    leftovers = [_describe(process, proof) for process, proof in found]
    pidfds = [pidfd for process, _ in found if (pidfd := open_pidfd(process.identity)) is not None]
    # Stopped first, so that none answers the death of another by a fork.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pidfd in pidfds:
            send(pidfd, number)
    for pidfd in pidfds:
        os.close(pidfd)
    spared = _spared(Snapshot.take(), frozenset(spare))
    for place in places:
        _empty(place, spared)
    ceiling.sweep(instance)
    return leftovers


def sweep(instance: str, spare: Iterable[int] = (), *, seconds: float = 5.0) -> list[Leftover]:
    """Rounds until two in a row find nothing. Blocks, usually for milliseconds. For a start, before the first fork.

    Returns what the rounds found, each process once; raises `LeftAlive` when something is still there at the end.
    """
    spare = frozenset(spare)
    deadline = time.monotonic() + seconds
    seen: dict[Identity, Leftover] = {}
    empty = 0
    while True:
        found = sweep_round(instance, spare)
        for leftover in found:
            seen.setdefault(Identity(leftover.pid, leftover.start_ticks), leftover)
        empty = 0 if found or left_places(instance, spare) else empty + 1
        if empty == 2:
            return list(seen.values())
        if time.monotonic() > deadline:
            pids = tuple(leftover.pid for leftover in found)
            raise LeftAlive(f"cannot end what an earlier life of {instance} left: processes {pids} do not die", pids)
        if found:
            _wait_dead(found, deadline)


def _wait_dead(leftovers: Iterable[Leftover], deadline: float) -> None:
    """Until all have ended, at most 50 ms: by then something new may have to be looked for."""
    deadline = min(deadline, time.monotonic() + 0.05)
    for leftover in leftovers:
        pidfd = open_pidfd(Identity(leftover.pid, leftover.start_ticks))
        if pidfd is None:
            continue
        try:
            while not is_dead(pidfd) and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            os.close(pidfd)


def _search(instance: str, spare: frozenset[int], places: list[str]) -> list[tuple[Process, str]]:
    prefix = check_instance(instance) + "-"
    snapshot = Snapshot.take()
    spared = _spared(snapshot, spare)
    in_cgroup = {pid for place in places for pid in cgroupfs.members(place)} - spared
    tagged = {
        process.pid
        for process in snapshot
        if process.pid not in spared and process.runs and read_tag(process.pid).startswith(prefix)
    }
    ours = snapshot.below(tagged | in_cgroup, stop=lambda process: process.pid in spared)

    def proof(pid: int) -> str:
        return "cgroup" if pid in in_cgroup else "tag" if pid in tagged else "descent"

    return [(process, proof(process.pid)) for process in ours.values() if process.runs]


def _spared(snapshot: Snapshot, spare: frozenset[int]) -> set[int]:
    return {os.getpid(), *snapshot.below(spare)}


def _describe(process: Process, proof: str) -> Leftover:
    return Leftover(
        pid=process.pid,
        start_ticks=process.start_ticks,
        command=command_line(process.pid),
        proof=proof,
        age=age(process.start_ticks),
        memory_bytes=memory_of([process.pid], proportional=True),
    )


def _places(instance: str) -> list[str]:
    """The instance's cgroup directories, wherever its earlier lives were started."""
    try:
        return cgroupfs.find_named([naming.instance_name(instance)])
    except Unsupported:
        return []


def left_places(instance: str, spare: frozenset[int] = frozenset()) -> list[str]:
    """The cgroup directories of the instance in which no spared process is."""
    places = _places(instance)
    spared = _spared(Snapshot.take(), spare) if places else set()
    return [place for place in places if spared.isdisjoint(cgroupfs.members(place))]


def _empty(place: str, spared: set[int]) -> None:
    """Kill and remove every part of a cgroup tree that holds no spared process."""
    if spared.isdisjoint(cgroupfs.members(place)):
        cgroupfs.kill(place)
        cgroupfs.remove(place)
        return
    for _, children, _ in os.walk(place):
        for child in children:
            _empty(f"{place}/{child}", spared)
        break
