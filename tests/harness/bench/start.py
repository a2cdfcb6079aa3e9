"""From the request for a worker to its hello at a ROUTER: forked by the real keeper, spawned, or from a forkserver."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from pathlib import Path

from hermesd.ipc.codec import Codec
from hermesd.ipc.keeping import Forked, ForkFailed, Gone
from hermesd.ipc.messages import UP, Hello
from hermesd.ipc.sockets import Router
from hermesd.supervisor.instance.keepers import Keepers
from hermesd.supervisor.pool.launchers.contract import Launcher
from hermesd.supervisor.pool.launchers.keeper import KeeperLauncher
from hermesd.workers.containment import open_containment
from hermesd.workers.containment.tag import make_tag
from hermesd.workers.spec import WorkerSpec

from . import peers, place, spawned
from .effort import Effort, Say
from .row import Row, Series

PATIENCE = 60.0
PRELOAD = ("hermesd.workers.mcp.server",)


def measure(effort: Effort, say: Say) -> list[Row]:
    with place.temporary() as directory:
        return asyncio.run(_measure(effort, say, directory))


async def _measure(effort: Effort, say: Say, directory: Path) -> list[Row]:
    door = _Door(directory / "door.sock")
    keeper = _Keeper(directory, door)
    ours: list[float] = []
    spawn: list[float] = []
    forkserver: list[float] = []
    try:
        await keeper.launcher.start()
        # The first child brings the forkserver up; the keeper is up already, too.
        await _start_by_multiprocessing(spawned.FORKSERVER, door)
        for number in range(effort.runs):
            ours.append(statistics.median([await keeper.start_one() for _ in range(effort.starts)]))
            spawn.append(await _start_by_multiprocessing(spawned.SPAWN, door))
            cheap = [await _start_by_multiprocessing(spawned.FORKSERVER, door) for _ in range(effort.starts)]
            forkserver.append(statistics.median(cheap))
            say(f"run {number + 1} of {effort.runs}")
    finally:
        await keeper.launcher.stop(10.0)
        door.router.close()
    return [
        Row(
            "start",
            "start of a worker to its hello",
            "ms",
            Series(f"forked by the keeper ({keeper.launcher.containment})", _ms(ours)),
            (
                Series("multiprocessing spawn", _ms(spawn)),
                Series("multiprocessing forkserver, preloaded", _ms(forkserver)),
            ),
        )
    ]


def _ms(seconds: list[float]) -> list[float]:
    return [value * 1000 for value in seconds]


class _Door:
    """A ROUTER that notes who said hello, and when."""

    def __init__(self, path: Path):
        self.router = Router(f"ipc://{path}", self._on_frame)
        self.endpoint = f"ipc://{path}"
        self._codec = Codec(*UP)
        self._expected: dict[str, asyncio.Future[tuple[float, Hello]]] = {}

    def expect(self, name: str) -> asyncio.Future[tuple[float, Hello]]:
        self._expected[name] = asyncio.get_running_loop().create_future()
        return self._expected[name]

    def _on_frame(self, identity: bytes, frame: bytes) -> None:
        now = time.perf_counter()
        hello = self._codec.decode(frame).message
        expected = self._expected.pop(identity.decode(), None)
        if expected is not None and isinstance(hello, Hello):
            expected.set_result((now, hello))


class _Keeper:
    """The real keeper behind the real launcher; one worker at a time."""

    def __init__(self, directory: Path, door: _Door):
        self._instance = secrets.token_hex(6)
        self._directory = directory
        self._door = door
        self._count = 0
        self._gone: asyncio.Future[None] | None = None
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
        self.launcher = KeeperLauncher(
            self,
            instance=self._instance,
            run_dir=directory,
            log_file=directory / "keeper.log",
            environment=self._environment,
            containment="auto",
            agent="demo",
            agent_path=(),
            preload=PRELOAD,
            adopt_timeout=0.0,
            keepers=Keepers(directory / "keepers.json"),
        )

    async def start_one(self) -> float:
        self._count += 1
        name = f"w{self._count}"
        hello = self._door.expect(name)
        self._gone = asyncio.get_running_loop().create_future()
        tag = make_tag(self._instance)
        contained = open_containment(self.launcher.containment, self._instance, pid=self.launcher.pid)
        spec = WorkerSpec(
            worker=name,
            instance=self._instance,
            tag=tag,
            endpoint=self._door.endpoint,
            token="",
            containment=self.launcher.containment,
            container=contained.worker(name, tag).place,
            agent="demo",
            wire_name=name,
            keeper=self.launcher.pid,
            environment=self._environment,
            log_dir=str(self._directory),
            stacks=str(self._directory / "stacks.txt"),
        )
        began = time.perf_counter()
        self.launcher.launch(spec)
        at, _ = await asyncio.wait_for(hello, PATIENCE)
        self.launcher.kill(name)
        await asyncio.wait_for(self._gone, PATIENCE)
        return at - began

    def forked(self, message: Forked) -> None:
        """Its hello is what counts."""

    def fork_failed(self, message: ForkFailed) -> None:
        raise RuntimeError(f"cannot start a worker: {message.reason}")

    def gone(self, message: Gone) -> None:
        if self._gone is not None:
            self._gone.set_result(None)

    def launcher_died(self, launcher: Launcher, reason: str) -> None:
        raise RuntimeError(reason)


async def _start_by_multiprocessing(method: str, door: _Door) -> float:
    name = f"{method}-{secrets.token_hex(4)}"
    hello = door.expect(name)
    spawned.context(method)
    began = time.perf_counter()
    with spawned.process(method, peers.say_hello, door.endpoint, name):
        at, message = await asyncio.wait_for(hello, PATIENCE)
    # A forkserver keeps silent about a module that it could not preload, and would be measured as the wrong thing.
    wanted = "preloaded" if method == spawned.FORKSERVER else "imported"
    if message.token != wanted:
        raise RuntimeError(f"the child of {method} had its modules {message.token}, not {wanted}")
    return at - began
