"""A message to another process and back, through the real pool and the real link thread.

Beside it: two blocking ZeroMQ sockets with nothing on top, the floor; and a ProcessPoolExecutor, what the standard
library has for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import zmq

from harness.unasked import Unasked
from hermesd.ipc.codec import Codec
from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import DOWN, Assign, Logs, Message, Snapshot, StartTurn, Steer, ToolUse
from hermesd.supervisor.pool.launchers.contract import LauncherListener
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.workers.spec import WorkerSpec

from . import peers, place, spawned
from .effort import Effort, Say
from .row import Row, Series

BYTES = 263
"""Of one message: a turn with a chat line of usual length."""

IN_FLIGHT = 256
PATIENCE = 60.0


def measure(effort: Effort, say: Say) -> list[Row]:
    with place.temporary() as directory:
        return asyncio.run(_measure(effort, say, directory))


async def _measure(effort: Effort, say: Say, directory: Path) -> list[Row]:
    times: dict[str, list[float]] = {"ours": [], "raw": [], "executor": []}
    rates: dict[str, list[float]] = {"ours": [], "raw": [], "executor": []}
    with _raw(directory) as raw, _executor() as executor:
        ours = _Ours(directory)
        await ours.start()
        try:
            for number in range(effort.runs):
                times["ours"].append(_median_us(await ours.round_trips(effort.round_trips)))
                times["raw"].append(_median_us(_raw_round_trips(raw, effort.round_trips)))
                times["executor"].append(_median_us(_executor_round_trips(executor, effort.round_trips)))
                rates["ours"].append(effort.pipelined / await ours.pipelined(effort.pipelined))
                rates["raw"].append(effort.pipelined / _raw_pipelined(raw, effort.pipelined))
                rates["executor"].append(effort.pipelined / _executor_pipelined(executor, effort.pipelined))
                say(
                    f"run {number + 1} of {effort.runs}: {times['ours'][-1]:.0f} us, {rates['ours'][-1]:.0f} messages/s"
                )
        finally:
            await ours.stop()

    def row(title: str, unit: str, values: dict[str, list[float]], lower_is_better: bool) -> Row:
        baselines = (
            Series("raw pyzmq, blocking, no delivery", values["raw"]),
            Series("ProcessPoolExecutor", values["executor"]),
        )
        return Row("hop", title, unit, Series("pool and link thread", values["ours"]), baselines, lower_is_better)

    return [
        row(f"round trip of {BYTES} bytes, median", "us", times, True),
        row(f"echoed messages of {BYTES} bytes, as many as go", "messages/s", rates, False),
    ]


def _median_us(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e6


# ---- ours ------------------------------------------------------------------------------------------------------------


class _Ours:
    """A pool whose one worker gives everything back. Also the pool's listener."""

    def __init__(self, directory: Path):
        instance = secrets.token_hex(6)
        self._pool = Pool(
            self,
            make_launcher=_EchoLauncher,
            endpoint=f"ipc://{directory}/workers.sock",
            template=WorkerSpec("", instance, "", "", "", "", "", "demo"),
            spare=0,
            stacks_dir=directory / "stacks",
            servers=Unasked(),
            on_launcher_death=lambda reason: None,
        )
        self._worker: Worker | None = None
        self._waiting = 0
        self._arrived: asyncio.Future[None] | None = None
        text = "x" * (BYTES - len(Codec(*DOWN).encode(Steer("t", ""))))
        self._message = Steer("t", text)

    async def start(self) -> None:
        await self._pool.start()
        self._worker = self._pool.take(Assign("session", "s", "bench", "chat", "user", "User"))
        self._pool.send(self._worker, StartTurn("t", "", ""))  # a worker may speak only of a turn that it was given
        await self.round_trips(50)

    async def stop(self) -> None:
        await self._pool.close(5.0)

    async def round_trips(self, count: int) -> list[float]:
        return [await self.pipelined(1) for _ in range(count)]

    async def pipelined(self, count: int) -> float:
        assert self._worker is not None
        self._waiting = count
        self._arrived = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        for _ in range(count):
            self._pool.send(self._worker, self._message)
        await asyncio.wait_for(self._arrived, PATIENCE)
        return time.perf_counter() - began

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        if isinstance(message, ToolUse):
            self._waiting -= 1
            if self._waiting == 0 and self._arrived is not None:
                self._arrived.set_result(None)

    def worker_ready(self, worker: Worker, error: str) -> None:
        """An echo has no agent."""

    def worker_forked(self, worker: Worker) -> None:
        pass

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None:
        pass

    def worker_has(self, worker: Worker, message: Message) -> None:
        """The echo says it."""

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        """Only at the end."""

    def worker_logs(self, worker: Worker, logs: Logs) -> None:
        """An echo has no logs."""


class _EchoLauncher:
    """Implements `hermesd.supervisor.pool.launchers.contract.Launcher` with one spawned echo."""

    containment = "pgroup"
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pid = start_ticks = 0
    started_at = 0.0
    state = "running"

    def __init__(self, listener: LauncherListener):
        self._children = contextlib.ExitStack()

    async def start(self) -> None:
        """An echo needs no keeper."""

    def launch(self, spec: WorkerSpec) -> None:
        echo = spawned.process(spawned.SPAWN, peers.echo_over_link, spec.endpoint, spec.wire_name, spec.token)
        self._children.enter_context(echo)

    def kill(self, worker: str, *, dump: bool = False) -> None:
        self._children.close()

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None:
        pass

    def leave_alone(self) -> None:
        pass

    async def stop(self, timeout: float) -> None:
        self._children.close()


# ---- raw pyzmq -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _raw(directory: Path) -> Iterator[Any]:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
    endpoint = f"ipc://{directory}/raw.sock"
    socket.bind(endpoint)
    try:
        with spawned.process(spawned.SPAWN, peers.echo_raw, endpoint):
            socket.recv_multipart()
            yield socket
    finally:
        socket.close()
        context.term()


def _raw_round_trips(socket: Any, count: int) -> list[float]:
    payload = b"x" * BYTES
    times = []
    for _ in range(count):
        began = time.perf_counter()
        socket.send_multipart((b"peer", payload))
        socket.recv_multipart()
        times.append(time.perf_counter() - began)
    return times


def _raw_pipelined(socket: Any, count: int) -> float:
    payload = b"x" * BYTES
    began = time.perf_counter()
    for number in range(count):
        if number >= IN_FLIGHT:
            socket.recv_multipart()
        socket.send_multipart((b"peer", payload))
    for _ in range(min(count, IN_FLIGHT)):
        socket.recv_multipart()
    return time.perf_counter() - began


# ---- ProcessPoolExecutor ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=spawned.context(spawned.SPAWN)) as executor:
        executor.submit(peers.same, b"").result()
        yield executor


def _executor_round_trips(executor: ProcessPoolExecutor, count: int) -> list[float]:
    payload = b"x" * BYTES
    times = []
    for _ in range(count):
        began = time.perf_counter()
        executor.submit(peers.same, payload).result()
        times.append(time.perf_counter() - began)
    return times


def _executor_pipelined(executor: ProcessPoolExecutor, count: int) -> float:
    payload = b"x" * BYTES
    began = time.perf_counter()
    for future in [executor.submit(peers.same, payload) for _ in range(count)]:
        future.result()
    return time.perf_counter() - began
