"""Memory of an idle session: what is its own (USS), and with its share of what it has in common (PSS)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import UP
from hermesd.ipc.sockets import Router

from . import idle_sessions, peers, place, spawned
from .effort import Effort, Say
from .row import Row, Series

PATIENCE = 60.0


class Memory(NamedTuple):
    """Medians over some processes, in MiB."""

    private: float
    proportional: float


def measure(effort: Effort, say: Say) -> list[Row]:
    ours: list[Memory] = []
    spawn: list[Memory] = []
    forkserver: list[Memory] = []
    for number in range(effort.runs):
        with idle_sessions.scene(effort.idle_sessions) as scene:
            ours.append(_median(idle_sessions.pids(scene, effort.idle_sessions)))
        spawn.append(_of_children(spawned.SPAWN, effort.spawned))
        forkserver.append(_of_children(spawned.FORKSERVER, effort.spawned))
        say(f"run {number + 1} of {effort.runs}: {ours[-1].private:.1f} MiB private, {spawn[-1].private:.1f} spawned")
    title = f"memory of an idle session, one of {effort.idle_sessions}"
    return [
        Row(
            "memory",
            f"{title}, private",
            "MiB",
            Series("a worker of hermesd", [one.private for one in ours]),
            (
                Series("spawned process, same imports", [one.private for one in spawn]),
                Series("forkserver child, preloaded", [one.private for one in forkserver]),
            ),
        ),
        Row(
            "memory",
            f"{title}, with its share of the common pages",
            "MiB",
            Series("a worker of hermesd", [one.proportional for one in ours]),
            (Series("spawned process, same imports", [one.proportional for one in spawn]),),
        ),
    ]


def _of_children(method: str, count: int) -> Memory:
    """Children of multiprocessing that have imported what a worker imports and do nothing."""
    with place.temporary() as directory:
        return asyncio.run(_of_greeted(method, count, directory))


async def _of_greeted(method: str, count: int, directory: Path) -> Memory:
    codec = Codec(*UP)
    greeted: set[str] = set()
    everybody = asyncio.Event()

    def on_frame(identity: bytes, frame: bytes) -> None:
        codec.decode(frame)
        greeted.add(identity.decode())
        if len(greeted) == count:
            everybody.set()

    endpoint = f"ipc://{directory}/door.sock"
    router = Router(endpoint, on_frame)
    try:
        with contextlib.ExitStack() as children:
            started = [
                children.enter_context(spawned.process(method, peers.say_hello, endpoint, secrets.token_hex(4)))
                for _ in range(count)
            ]
            await asyncio.wait_for(everybody.wait(), PATIENCE)
            return _median([child.pid for child in started if child.pid is not None])
    finally:
        router.close()


def _median(pids: Sequence[int]) -> Memory:
    found = [rolled(pid) for pid in pids]
    return Memory(statistics.median(one.private for one in found), statistics.median(one.proportional for one in found))


def rolled(pid: int) -> Memory:
    """Of one process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory((kib["Private_Clean"] + kib["Private_Dirty"]) / 1024, kib["Pss"] / 1024)
