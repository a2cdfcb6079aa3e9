"""What the kernel knows of a process that does nothing: where it waits, thread by thread, and what is below it.

Nothing here reads what needs the process's own memory map (``cmdline``, ``environ``, ``smaps``): of a process that is
stuck with that lock held, such a read hangs as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .identity import Identity, stat_fields
from .procfs import TICK, Snapshot

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waits in the kernel and cannot be interrupted",
    "T": "stopped by a signal",
    "t": "stopped by a tracer",
    "Z": "dead and not reaped",
    "X": "dead",
    "I": "idle kernel thread",
}

MAX_THREADS = 64
MAX_BELOW = 200


def own_cpu(identity: Identity) -> float | None:
    """CPU seconds of one process, its children not counted; None if it is gone, or where there is no /proc."""
    fields = stat_fields(identity.pid)
    if fields is None or int(fields[19]) != identity.start_ticks:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK


def describe(identity: Identity) -> list[str]:
    """Lines for a person. What this user may not see, or this system does not tell, is said in its place.

    It may block as long as the kernel does: call it in a thread and do not wait for ever.
    """
    if not os.path.isdir("/proc/self/task"):
        return ["this system does not tell what a process waits for"]
    pid = identity.pid
    fields = stat_fields(pid)
    if fields is None or int(fields[19]) != identity.start_ticks:
        return ["the process is gone"]
    return [
        "process",
        *_process(pid),
        "",
        "threads",
        *_threads(pid),
        "",
        "processes below",
        *_below(pid),
    ]


def _process(pid: int) -> Iterator[str]:
    status = _status(pid)
    yield f"  state      {_state(f'/proc/{pid}')}"
    yield f"  waits in   {_read(f'/proc/{pid}/wchan')}"
    for label, key in (
        ("tracer", "TracerPid"), ("threads", "Threads"), ("pending", "SigPnd"), ("shared", "ShdPnd"),
        ("blocked", "SigBlk"), ("switches", "voluntary_ctxt_switches"),
    ):  # fmt: skip
        yield f"  {label:<10} {status.get(key, '?')}"


def _threads(pid: int) -> Iterator[str]:
    try:
        names = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
    except OSError as error:
        yield f"  cannot be read: {error.strerror}"
        return
    for name in names[:MAX_THREADS]:
        place = f"/proc/{pid}/task/{name}"
        yield f"  {name} {_read(f'{place}/comm')}: {_state(place)}, CPU {_cpu(place)}"
        yield f"    waits in {_read(f'{place}/wchan')}"
        yield f"    syscall  {_read(f'{place}/syscall')}"
        for line in _read(f"{place}/stack").splitlines():
            yield f"    stack    {line}"
    if len(names) > MAX_THREADS:
        yield f"  and {len(names) - MAX_THREADS} more"


def _below(pid: int) -> Iterator[str]:
    found = [process for process in Snapshot.take().below([pid]).values() if process.pid != pid]
    if not found:
        yield "  none"
    for process in found[:MAX_BELOW]:
        name, state = _read(f"/proc/{process.pid}/comm"), STATES.get(process.state, "?")
        yield (
            f"  {process.pid} below {process.parent} {name}: {process.state} ({state}), CPU {process.cpu * TICK:.2f} s"
        )
    if len(found) > MAX_BELOW:
        yield f"  and {len(found) - MAX_BELOW} more"


def _state(place: str) -> str:
    _, bracket, rest = _read(f"{place}/stat").rpartition(")")
    letter = rest.strip()[:1] if bracket else ""
    return f"{letter} ({STATES[letter]})" if letter in STATES else letter or "gone"


def _cpu(place: str) -> str:
    fields = _read(f"{place}/stat").rpartition(")")[2].split()
    return f"{(int(fields[11]) + int(fields[12])) * TICK:.2f} s" if len(fields) > 12 else "?"


def _status(pid: int) -> dict[str, str]:
    lines = (line.partition(":") for line in _read(f"/proc/{pid}/status").splitlines())
    return {key: value.strip() for key, _, value in lines}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            text = file.read(65536).decode("utf-8", "replace").strip()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    # wchan is 0 for a thread that runs, and for who may not look.
    return text or "nothing"
