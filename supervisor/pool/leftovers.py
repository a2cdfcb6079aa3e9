"""What an earlier hermesd of this home has left running or lying about, and its removal; for ``doctor``.

A process is ours by its tag or its cgroup, or below one that is; never by what it looks like. With a running hermesd,
what belongs to a living keeper or worker is no leftover: `InUse` says which those are, and is asked for *after* each
look, since whoever was seen in the look was started before, and is known by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hermesd.supervisor.instance import keepers
from hermesd.supervisor.instance.paths import Paths
from hermesd.workers.containment import cgroupfs, identity, naming, pgroup, sweep
from hermesd.workers.containment.contract import Leftover
from hermesd.workers.containment.errors import ContainmentError, LeftAlive, Unsupported

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import LeftoverRow

SECONDS = 5.0

ROUND_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class InUse:
    """What is a running hermesd's: its keepers and workers by pid, workers by id, sockets of its keepers."""

    pids: frozenset[int]
    workers: frozenset[str]
    sockets: frozenset[Path]


@dataclass(frozen=True, slots=True)
class Remains:
    """What was found. ``cgroups``: directories without a process. ``files``: sockets, and files that name the dead."""

    processes: tuple[Leftover, ...] = ()
    cgroups: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.processes or self.cgroups or self.files or self.directories)


@dataclass(frozen=True, slots=True)
class Mended:
    """What was ended or removed, and what is still there."""

    done: Remains = field(default_factory=Remains)
    left: Remains = field(default_factory=Remains)


# ---- no hermesd runs -------------------------------------------------------------------------------------------------


def look(paths: Paths) -> Remains:
    """Everything of the instance that is there. No hermesd runs: the caller has seen its lock free, or holds it."""
    return Remains(
        processes=tuple(_find(paths.instance)),
        cgroups=tuple(place for place in _places(paths.instance) if not cgroupfs.members(place)),
        files=tuple(_stale_files(paths)),
        directories=tuple(place for place in _runtime_directories(paths) if place.is_dir() and not place.is_symlink()),
    )


def mend(paths: Paths, seconds: float = SECONDS) -> Mended:
    """End and remove all of it, in rounds until two have found nothing. The caller holds the instance's lock.

    Blocks, for ``seconds`` at most.
    """
    before = look(paths)
    killed: Iterable[Leftover] = ()
    if before.processes or before.cgroups:
        with contextlib.suppress(ContainmentError):  # what is left then is seen below
            killed = _sweep(paths.instance, seconds)
    for path in before.files:
        _remove(path)
    for place in before.directories:
        _remove_directory(place)
    return _compare(before, killed, look(paths))


# ---- a hermesd runs --------------------------------------------------------------------------------------------------


def look_beside(paths: Paths, in_use: Callable[[], InUse]) -> Remains:
    """What is not the running hermesd's. ``in_use`` is called once everything has been looked at."""
    seen = {(left.pid, left.start_ticks) for left in _find(paths.instance)}
    bases = _places(paths.instance)
    places = [f"{base}/{name}" for base in bases for name in _folders(base)] + bases
    sockets = list(_sockets(paths.sockets))
    used = in_use()
    in_use_names = {naming.worker_name(worker) for worker in used.workers} | {f"keeper-{pid}" for pid in used.pids}
    return Remains(
        processes=tuple(left for left in _find(paths.instance, used.pids) if (left.pid, left.start_ticks) in seen),
        cgroups=tuple(
            place
            for place in places
            if os.path.basename(place) not in in_use_names and not _is_probe(place) and not cgroupfs.members(place)
        ),
        files=tuple(path for path in sockets if path.name.startswith("keeper-") and path not in used.sockets),
    )


def mend_beside(paths: Paths, in_use: Callable[[], InUse], seconds: float = SECONDS) -> Mended:
    """End and remove that, in rounds until two have found nothing, beside a hermesd that goes on working.

    Processes one by one: a whole cgroup might have got a living worker since it was looked at.
    """
    deadline = time.monotonic() + seconds
    before = found = look_beside(paths, in_use)
    killed: dict[tuple[int, int], Leftover] = {}
    empty = 0
    while empty < 2 and time.monotonic() < deadline:
        for left in found.processes:
            if identity.signal_process(identity.Identity(left.pid, left.start_ticks), signal.SIGSTOP, signal.SIGKILL):
                killed[left.pid, left.start_ticks] = left
        for place in found.cgroups:
            _remove_cgroup(place)
        for path in found.files:
            _remove(path)
        empty = 0 if found else empty + 1
        if found:
            time.sleep(ROUND_PAUSE)
        found = look_beside(paths, in_use)
    return _compare(before, killed.values(), found)


# ---- looking ---------------------------------------------------------------------------------------------------------


def _find(instance: str, spare: Iterable[int] = ()) -> list[Leftover]:
    if sys.platform == "linux":
        return sweep.find(instance, spare)
    else:
        return pgroup.GroupContainment(instance).find(spare)


def _sweep(instance: str, seconds: float) -> list[Leftover]:
    """Rounds until two in a row find nothing. Raises `LeftAlive`."""
    if sys.platform == "linux":
        return sweep.sweep(instance, seconds=seconds)
    else:
        return _sweep_groups(pgroup.GroupContainment(instance), seconds)


def _sweep_groups(sweeper: pgroup.GroupContainment, seconds: float) -> list[Leftover]:
    deadline = time.monotonic() + seconds
    seen: dict[int, Leftover] = {}
    empty = 0
    while empty < 2:
        found = sweeper.sweep()
        seen.update((left.pid, left) for left in found)
        empty = 0 if found else empty + 1
        if time.monotonic() > deadline:
            pids = tuple(left.pid for left in found)
            raise LeftAlive(f"cannot end what an earlier hermesd left: processes {pids} do not die", pids)
        time.sleep(ROUND_PAUSE)
    return list(seen.values())


def _places(instance: str) -> list[str]:
    if sys.platform != "linux":
        return []
    try:
        return cgroupfs.find_named([naming.instance_name(instance)])
    except Unsupported:
        return []


def _folders(place: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _is_probe(place: str) -> bool:
    """Whether a process tries out just now if it can have cgroups: it names a directory after itself."""
    name = os.path.basename(place)
    return name.startswith("probe-") and os.path.exists(f"/proc/{name.removeprefix('probe-')}")


def _runtime_directories(paths: Paths) -> list[Path]:
    """Where the sockets of this instance lie when the home's path is too long for them, by any of the two rules."""
    candidates = {Path("/tmp") / f"hermesd-{os.getuid()}-{paths.instance}"}
    if runtime := os.environ.get("XDG_RUNTIME_DIR", ""):
        candidates.add(Path(runtime) / f"hermesd-{paths.instance}")
    if paths.sockets != paths.run:
        candidates.add(paths.sockets)
    return sorted(candidates)


def _stale_files(paths: Paths) -> list[Path]:
    found = [path for place in (paths.run, *_runtime_directories(paths)) for path in _sockets(place)]
    if os.path.lexists(paths.pid_file):
        found.append(paths.pid_file)
    if os.path.lexists(paths.keepers):
        found.append(paths.keepers)
    for name in (paths.pid_file.name, paths.keepers.name):
        found += sorted(paths.run.glob(f"{name}.*.tmp"))
    return found


def _sockets(place: Path) -> list[Path]:
    try:
        if place.is_symlink() or place.stat().st_uid != os.getuid():
            return []
        return sorted(path for path in place.iterdir() if stat.S_ISSOCK(path.lstat().st_mode))
    except OSError:
        return []  # it is not there, or another user's


# ---- removing --------------------------------------------------------------------------------------------------------


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # it is seen again, and told as left


def _remove_directory(place: Path) -> None:
    try:
        place.rmdir()
    except OSError:
        return  # not empty, or another user's: it is seen again, and told as left


def _remove_cgroup(place: str) -> None:
    """The instance's own directory only when nothing is in it: a keeper may be about to make its place there."""
    with contextlib.suppress(OSError, ContainmentError):
        if os.path.basename(place).startswith("hermesd-"):
            os.rmdir(place)
        else:
            cgroupfs.remove(place)


def _compare(before: Remains, killed: Iterable[Leftover], after: Remains) -> Mended:
    still = {(left.pid, left.start_ticks) for left in after.processes}
    ended = {(left.pid, left.start_ticks): left for left in (*before.processes, *killed)}
    done = Remains(
        processes=tuple(left for key, left in ended.items() if key not in still),
        cgroups=tuple(place for place in before.cgroups if place not in after.cgroups),
        files=tuple(path for path in before.files if path not in after.files),
        directories=tuple(place for place in before.directories if place not in after.directories),
    )
    return Mended(done, after)


# ---- telling ---------------------------------------------------------------------------------------------------------


def rows(remains: Remains, *, why: bool = False) -> list[LeftoverRow]:
    """As documents have it; ``why``: with the reason that it is still there."""
    found: list[LeftoverRow] = [
        {
            "kind": "process",
            "pid": left.pid,
            "command": left.command,
            "proof": left.proof,
            "age_s": round(left.age, 1),
            "memory_bytes": left.memory_bytes,
        }
        for left in remains.processes
    ]
    found += [{"kind": "cgroup", "path": place} for place in remains.cgroups]
    found += [{"kind": "socket" if _is_socket(path) else "file", "path": str(path)} for path in remains.files]
    found += [{"kind": "directory", "path": str(place)} for place in remains.directories]
    if why:
        for row in found:
            row["reason"] = _why(row)
    return found


def _is_socket(path: Path) -> bool:
    return path.suffix == ".sock"


def _why(row: LeftoverRow) -> str:
    place = f"/proc/{row['pid']}" if "pid" in row else row["path"]
    try:
        owner = os.lstat(place).st_uid
    except OSError:
        return "it is about to go"
    if owner != os.geteuid() != 0:
        return f"it belongs to uid {owner}"
    return "it does not die" if "pid" in row else "it cannot be removed"


def in_use_by(listed: Path, pids: Iterable[int], workers: Iterable[str]) -> InUse:
    """What is in use, from the list of keepers on disk and what the pool knows. Called on the event loop: there,
    whoever was started is known and on the list.
    """
    living = [record for record in keepers.read(listed) if record.is_alive()]
    return InUse(
        pids=frozenset({*pids, *(record.pid for record in living)} - {0}),
        workers=frozenset(workers),
        sockets=frozenset(Path(record.socket) for record in living),
    )
