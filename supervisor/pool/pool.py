"""The worker processes: started, spoken to and ended here. Who gets which worker is decided in the gateway.

The pool owns the ROUTER socket and one link per worker. A worker's hello is believed once, by the token it inherited;
from then on frames of its identity are its own, and any other identity is nobody: its frames are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hermesd.ipc.codec import Codec
from hermesd.ipc.errors import PeerError
from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.keeping import Forked, ForkFailed, Gone
from hermesd.ipc.link import Confirmed, Delivered, Event, Link, Received, Refused
from hermesd.ipc.messages import DOWN, UP, Assign, Heartbeat, Hello, Logs, Message, Ready, Servers, Stop, Welcome
from hermesd.ipc.sockets import Router
from hermesd.ipc.token import Tokens
from hermesd.workers import containment
from hermesd.workers.containment import tag as tags
from hermesd.workers.spec import WorkerSpec

from .launchers.contract import Launcher, LauncherListener
from .worker import Worker

log = logging.getLogger("hermesd.pool")


class PoolListener(Protocol):
    """The gateway's side. Each call happens on the event loop."""

    def worker_ready(self, worker: Worker, error: str) -> None:
        """The worker of a session has its agent, or ``error`` says why its turns will fail."""

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        """A message of a session's worker. A durable one must be settled once it is journalled."""

    def worker_has(self, worker: Worker, message: Message) -> None:
        """A reliable message to the worker has arrived there."""

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead and nothing of it is left; or it never came to be (exit code 70 and no pid)."""

    def worker_logs(self, worker: Worker, logs: Logs) -> None: ...


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """For ``hermesctl status``: what was dropped at the door."""

    foreign_frames: int
    refused_hellos: int
    peer_errors: int


class Pool(LauncherListener):
    """``template`` is the `WorkerSpec` of every worker but for its own names."""

    def __init__(
        self,
        listener: PoolListener,
        *,
        make_launcher: Callable[[LauncherListener], Launcher],
        endpoint: str,
        template: WorkerSpec,
        spare: int,
        stacks_dir: Path,
        on_launcher_death: Callable[[str], None],
    ):
        self._listener = listener
        self._template = template
        self._spare = spare
        self._stacks_dir = stacks_dir
        self._endpoint = endpoint
        self._on_launcher_death = on_launcher_death
        self._codec = Codec(*DOWN, *UP, accepts=UP)
        self._tokens = Tokens()
        self._workers: dict[WorkerId, Worker] = {}
        self._by_identity: dict[bytes, Worker] = {}
        self._count = 0
        self._boot = secrets.token_hex(2)
        self._launcher = make_launcher(self)
        self._router: Router | None = None
        self._containment: containment.Containment | None = None
        self._closing = False
        self._all_gone = asyncio.Event()
        self._foreign_frames = self._refused_hellos = self._peer_errors = 0
        self.cpu_of_the_gone = 0.0  # seconds, of all workers that have ended

    @property
    def launcher(self) -> Launcher:
        return self._launcher

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        return self._workers

    @property
    def containment(self) -> containment.Containment | None:
        """What the launcher chose; None before it is up."""
        return self._containment

    def counts(self) -> PoolCounts:
        return PoolCounts(self._foreign_frames, self._refused_hellos, self._peer_errors)

    async def start(self) -> None:
        """Bind, start the launcher, make the spares. Call under the instance's lock only: a second bind on a live ipc
        path succeeds silently and steals it.
        """
        self._stacks_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._router = Router(self._endpoint, self._on_frame)
        await self._launcher.start()
        self._containment = containment.open_containment(
            self._launcher.containment, self._template.instance, pid=self._launcher.pid
        )
        self._refill()

    # ---- for the gateway ---------------------------------------------------------------------------------------------

    def take(self, assign: Assign) -> Worker:
        """A worker for this session: a spare that is there already, or a new process.

        Raises `hermesd.ipc.errors.LocalError`, and takes none, when the wire cannot carry the session.
        """
        self._codec.pack(assign)
        worker = next((w for w in self._workers.values() if w.session is None and not w.ending), None) or self._launch()
        worker.session = SessionKey(assign.session_key)
        worker.assign = assign
        if worker.connected:
            self._tell_session(worker)
        self._refill()
        return worker

    def send(self, worker: Worker, message: Message) -> None:
        worker.link.send(message)
        self._flush(worker)

    def stop_worker(self, worker: Worker, reason: str, grace: float) -> None:
        """Ask a worker to end. It is for the caller to `kill` it when it does not."""
        worker.ending = True
        if worker.connected:
            self.send(worker, Stop(reason, grace))
        else:
            self.kill(worker)

    def kill(self, worker: Worker, *, dump: bool = False) -> None:
        worker.ending = True
        self._launcher.kill(worker.id, dump=dump)

    def stacks_of(self, worker: WorkerId) -> str:
        """The file with the stack dump that a worker wrote before it was killed, "" for none."""
        path = self._stacks_dir / f"{worker}.txt"
        return str(path) if path.exists() and path.stat().st_size else ""

    async def close(self, timeout: float) -> None:
        """End every worker and the launcher. The gateway has asked the workers politely before."""
        self._closing = True
        await self._launcher.stop(timeout)
        for worker in list(self._workers.values()):
            self._forget(worker, Gone(worker.id, -9, worker.cpu_seconds, 0, 0, 0.0))
        if self._router is not None:
            self._router.close()

    async def wait_all_gone(self, timeout: float) -> bool:
        """True when no worker is left."""
        if not self._workers:
            return True
        self._all_gone.clear()
        try:
            await asyncio.wait_for(self._all_gone.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def stop_spares(self, grace: float) -> None:
        """Part of a stop: no spare is made any more and the idle ones end."""
        self._closing = True
        for worker in list(self._workers.values()):
            if worker.session is None and not worker.ending:
                self.stop_worker(worker, "hermesd stops", grace)

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _launch(self) -> Worker:
        self._count += 1
        assert self._containment is not None
        name = WorkerId(f"w{self._count}-{self._boot}")
        # Unguessable: ZeroMQ hands the connection of a routing id over to whoever comes with the same one.
        wire_name = f"{name}.{secrets.token_hex(16)}"
        tag = tags.make_tag(self._template.instance)
        container = self._containment.worker(name, tag)
        now = time.monotonic()
        worker = Worker(
            name,
            wire_name.encode(),
            tag,
            Link(self._codec),
            container,
            started_at=time.time(),
            launched=now,
            last_heard=now,
        )
        self._workers[name] = worker
        self._by_identity[worker.identity] = worker
        spec = replace(
            self._template,
            worker=name,
            tag=tag,
            endpoint=self._endpoint,
            token=self._tokens.issue(name),
            wire_name=wire_name,
            keeper=self._launcher.pid,
            containment=self._launcher.containment,
            container=container.place,
            stacks=str(self._stacks_dir / f"{name}.txt"),
        )
        self._launcher.launch(spec)
        return worker

    def _refill(self) -> None:
        if self._closing:
            return
        spares = sum(1 for worker in self._workers.values() if worker.session is None and not worker.ending)
        for _ in range(self._spare - spares):
            self._launch()

    def forked(self, message: Forked) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is not None:
            worker.pid, worker.start_ticks = message.pid, message.start_ticks

    def fork_failed(self, message: ForkFailed) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is None:
            return
        log.error("cannot start a worker: %s", message.reason)
        self._forget(worker, Gone(worker.id, 70, 0.0, 0, 0, 0.0))

    def gone(self, message: Gone) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is not None:
            self._forget(worker, message)

    def launcher_died(self, reason: str) -> None:
        if not self._closing:
            self._on_launcher_death(reason)

    def _forget(self, worker: Worker, gone: Gone) -> None:
        del self._workers[worker.id]
        del self._by_identity[worker.identity]
        self._tokens.revoke(worker.id)
        if worker.timer is not None:
            worker.timer.cancel()
        worker.cpu_seconds = gone.cpu_seconds
        self.cpu_of_the_gone += gone.cpu_seconds
        stacks = self._stacks_dir / f"{worker.id}.txt"
        if stacks.exists() and stacks.stat().st_size == 0:
            stacks.unlink()
        if worker.session is not None:
            self._listener.worker_gone(worker, gone)
        elif not worker.ending and not self._closing:
            log.error("a spare worker died before it had a session, exit %d", gone.exit_code)
        if not self._workers:
            self._all_gone.set()

    # ---- the wire ----------------------------------------------------------------------------------------------------

    def _on_frame(self, identity: bytes, frame: bytes) -> None:
        worker = self._by_identity.get(identity)
        if worker is None:
            self._foreign_frames += 1
            return
        if not worker.connected:
            self._greet(worker, frame)
            return
        now = time.monotonic()
        for event in worker.link.receive(frame, now):
            self._on_event(worker, event, now)
        self._flush(worker)

    def _greet(self, worker: Worker, frame: bytes) -> None:
        try:
            hello = self._codec.decode(frame).message
        except PeerError as error:
            self._peer_errors += 1
            log.warning("dropped a frame: %s", error)
            return
        if not isinstance(hello, Hello) or not self._tokens.redeem(worker.id, hello.token):
            self._refused_hellos += 1
            log.error("refused a hello as %s: no such token", worker.id)
            return
        worker.connected = True
        worker.pid, worker.start_ticks = hello.pid, hello.start_ticks
        worker.last_heard = time.monotonic()
        worker.link.send(Welcome())
        if worker.ending:
            worker.link.send(Stop("not needed", self._template.stop_grace))
        elif worker.assign is not None:
            self._tell_session(worker)
        self._flush(worker)

    def _tell_session(self, worker: Worker) -> None:
        assert worker.assign is not None
        worker.link.send(worker.assign)
        self._flush(worker)

    def _on_event(self, worker: Worker, event: Event, now: float) -> None:
        match event:
            case Received(message=message, seq=seq):
                worker.last_heard = now
                self._on_message(worker, message, seq)
            case Confirmed(message=message) | Delivered(message=message):
                self._listener.worker_has(worker, message)
            case Refused(error=error):
                self._peer_errors += 1
                worker.peer_errors += 1
                if worker.peer_errors in (1, 10, 100, 1000):
                    log.warning("dropped a frame of %s (%d so far): %s", worker.id, worker.peer_errors, error)

    def _on_message(self, worker: Worker, message: Message, seq: int) -> None:
        match message:
            case Heartbeat():
                worker.turn, worker.loop_age = message.turn, message.loop_age
            case Hello():
                pass  # sent again before our welcome arrived
            case Logs():
                self._listener.worker_logs(worker, message)
            case Servers():
                worker.servers = message.servers
            case Ready():
                worker.ready = True
                self._listener.worker_ready(worker, message.error)
            case _:
                self._listener.worker_said(worker, message, lambda: self._settle(worker, seq))

    def _settle(self, worker: Worker, seq: int) -> None:
        worker.link.settle(seq)
        self._flush(worker)

    def _flush(self, worker: Worker) -> None:
        if not worker.connected or self._router is None:
            return
        router = self._router
        now = time.monotonic()
        worker.link.flush(now, lambda frame: router.send(worker.identity, frame))
        due = worker.link.due()
        if due is None or worker.id not in self._workers:
            return
        at = max(due, now)
        if worker.timer is not None:
            # Looking too early costs nothing and arms it again; a new timer for each message costs a seventh of the
            # supervisor's whole time for it.
            if worker.timer.when() <= at:
                return
            worker.timer.cancel()
        worker.timer = asyncio.get_running_loop().call_at(at, self._flush_when_due, worker)

    def _flush_when_due(self, worker: Worker) -> None:
        worker.timer = None
        self._flush(worker)
