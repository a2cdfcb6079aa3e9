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
from dataclasses import replace
from functools import partial
from pathlib import Path

from hermesd.ipc.codec import Codec
from hermesd.ipc.errors import PeerError
from hermesd.ipc.ids import SessionKey, WorkerId
from hermesd.ipc.keeping import Forked, ForkFailed, Gone
from hermesd.ipc.link import Confirmed, Delivered, Event, Link, Received, Refused
from hermesd.ipc.mcp import is_the_same
from hermesd.ipc.messages import (
    DOWN,
    UP,
    AccessToken,
    Assign,
    Equip,
    Heartbeat,
    Hello,
    Kept,
    Listed,
    Logs,
    Message,
    Ready,
    Serve,
    ServerNews,
    Servers,
    SharedCall,
    SharedCancel,
    SharedResult,
    Snapshot,
    StartRequest,
    StartTurn,
    Stop,
    TokenWanted,
    Welcome,
)
from hermesd.ipc.sockets import Router
from hermesd.ipc.token import Tokens, matches, proof_of
from hermesd.workers import containment
from hermesd.workers.containment import tag as tags
from hermesd.workers.spec import WorkerSpec

from . import evidence
from .claims import false_claim
from .curve import Keys
from .dropped import Dropped, PoolCounts
from .launchers.contract import Launcher, LauncherListener
from .launchers.roster import Roster
from .listeners import HolderListener, PoolListener, ServerListener
from .takeover import Heir
from .worker import Worker

log = logging.getLogger("hermesd.pool")

EMPTYING_PAUSE = 0.002
"""Seconds between two rounds of emptying a container: a killed process needs about one to be gone."""


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
        servers: ServerListener,
        on_launcher_death: Callable[[str], None],
        keys: Keys | None = None,
        holders: HolderListener | None = None,
        on_token_wanted: Callable[[TokenWanted, Callable[[AccessToken], None]], None] | None = None,
    ):
        self._listener = listener
        self._template = template
        self._spare = spare
        self._holders = holders
        self._stacks_dir = stacks_dir
        self._servers = servers
        self._endpoint = endpoint
        self._codec = Codec(*DOWN, *UP, accepts=UP)
        self._tokens = Tokens()
        self._workers: dict[WorkerId, Worker] = {}
        self._by_identity: dict[bytes, Worker] = {}
        self._count = 0
        self._boot = secrets.token_hex(2)
        self._roster = Roster(lambda: make_launcher(self), self._launcher_up, on_launcher_death)
        self._router: Router | None = None
        self._containment: containment.Containment | None = None
        self._closing = self._closed = False
        self._all_gone = asyncio.Event()
        self._keys = keys
        self._on_token_wanted = on_token_wanted
        self._dropped = Dropped()
        self.cpu_of_the_gone = 0.0  # seconds, of all workers that have ended

    @property
    def launcher(self) -> Launcher:
        """The one that starts new workers."""
        return self._roster.own

    @property
    def launchers(self) -> list[Launcher]:
        """It and those of earlier hermesds, which still hold workers."""
        return self._roster.all

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        return self._workers

    @property
    def containment(self) -> containment.Containment | None:
        """What the launcher of new workers chose; None before it is up."""
        return self._containment

    def counts(self) -> PoolCounts:
        return self._dropped.counts()

    async def start(self) -> None:
        """Bind, start the launcher, make the spares. Call under the instance's lock only: a second bind on a live ipc
        path succeeds silently and steals it.
        """
        self._stacks_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        security = None
        if self._keys is not None:
            self._keys.forget_others()
            security = self._keys.server(self._dropped.key)
        self._router = Router(self._endpoint, self._on_frame, security=security)
        for launcher in self._roster.adopted:
            await launcher.start()
        await self._roster.start()
        self._launcher_up()

    # ---- for the gateway ---------------------------------------------------------------------------------------------

    def take(self, assign: Assign) -> Worker:
        """A worker for this session: a spare that is there already, or a new process.

        Raises `hermesd.ipc.errors.LocalError`, and takes none, when the wire cannot carry the session.
        """
        self._codec.pack(assign)
        worker = self._spare_one()
        worker.session = SessionKey(assign.session_key)
        worker.assign, worker.assigned_at = assign, time.monotonic()
        if worker.connected:
            self._tell_session(worker)
        self._refill()
        return worker

    def take_holder(self, server: str) -> Worker:
        """A worker to hold an MCP server for all sessions: a spare that is there already, or a new process."""
        worker = self._spare_one()
        worker.serves, worker.assigned_at = server, time.monotonic()
        if worker.connected:
            self.send(worker, Serve(server))
        else:
            if worker.equipped != self._template.servers:
                # Before the first call, and not with the others' after the hello: by then it may be another server.
                worker.equipped = self._template.servers
                worker.errands.append(Equip(worker.equipped))
            worker.errands.append(Serve(server))
        self._refill()
        return worker

    def replace_spare(self, worker: Worker) -> None:
        """End a spare at once, for it has nothing to lose, and start another one."""
        if worker.is_spare and not worker.ending:
            self.kill(worker)
            self._refill()

    def _spare_one(self) -> Worker:
        return next((w for w in self._workers.values() if w.is_spare and not w.ending), None) or self._launch()

    def send(self, worker: Worker, message: Message) -> None:
        worker.link.send(message)
        if isinstance(message, StartTurn):
            worker.given.append(message.turn)
            worker.turns += 1
        self._flush(worker)

    def stop_worker(self, worker: Worker, reason: str, grace: float) -> None:
        """Ask a worker to end. It is for the caller to `kill` it when it does not."""
        worker.ending = True
        if worker.connected or worker.adopted:
            self.send(worker, Stop(reason, grace))
        else:
            self.kill(worker)

    def kill(self, worker: Worker, *, dump: bool = False) -> None:
        worker.ending = worker.doomed = True
        if worker.launcher is not None:
            worker.launcher.kill(worker.id, dump=dump)

    def stacks_file(self, worker: WorkerId) -> Path:
        """Where a worker writes its stack dump."""
        return self._stacks_dir / f"{worker}.txt"

    def stacks_of(self, worker: WorkerId) -> str:
        """The file with the stack dump that a worker wrote before it was killed, "" for none."""
        path = self.stacks_file(worker)
        return str(path) if path.exists() and path.stat().st_size else ""

    def prune_stacks(self, now: float) -> None:
        """Remove dumps that are too old or too many; ``now`` in Unix seconds."""
        # A living worker holds its file open, and it stays empty until it is needed.
        evidence.prune(self._stacks_dir, now, {f"{worker}.txt" for worker in self._workers})

    async def close(self, timeout: float) -> None:
        """End every worker and the launchers. The gateway has asked the workers politely before."""
        self._closing = self._closed = True
        await self._roster.close(timeout)
        await self._empty_orphans(timeout)
        for worker in list(self._workers.values()):
            self._forget(worker, Gone(worker.id, -9, worker.cpu_seconds, 0, 0, 0.0))
        if self._router is not None:
            self._router.close()

    async def _empty_orphans(self, timeout: float) -> None:
        """End the workers whose keeper is dead, when there will be none any more that could."""
        deadline = time.monotonic() + max(timeout, 1.0)
        for worker in list(self._workers.values()):
            if worker.launcher is not None or worker.container is None:
                continue
            while not worker.container.kill_round():
                if time.monotonic() > deadline:
                    log.error("worker %s is left for the next start to sweep: it does not die", worker.id)
                    return
                await asyncio.sleep(EMPTYING_PAUSE)

    async def let_go(self, timeout: float) -> None:
        """Leave every worker with a session as it is, for another hermesd to take over; nothing is sent any more."""
        self._closing = self._closed = True
        own_is_needed = any(
            worker.session is not None and worker.launcher is self.launcher for worker in self._workers.values()
        )
        await self._roster.leave_alone(not own_is_needed, timeout)
        for worker in self._workers.values():
            if worker.timer is not None:
                worker.timer.cancel()
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
        """Part of a stop: no spare is made any more, and those that have no session end."""
        self._closing = True
        for worker in list(self._workers.values()):
            if worker.session is None and not worker.ending:
                self.stop_worker(worker, "hermesd stops", grace)

    def reconfigure(self, template: WorkerSpec, spare: int) -> None:
        """Workers that start from now on are of this template; spares of another one, and those too many, end.

        Other MCP servers reach also the workers that run: each takes them up as soon as it has no turn.
        """
        before, self._template = self._template, template
        changed = replace(template, servers=()) != replace(before, servers=())
        self._spare = spare
        spares = [worker for worker in self._workers.values() if worker.is_spare and not worker.ending]
        for worker in spares if changed else spares[spare:]:
            self.stop_worker(worker, "the configuration has changed", template.stop_grace)
        for worker in list(self._workers.values()):
            self._equip(worker)
        self._refill()

    def _equip(self, worker: Worker) -> None:
        """Tell a worker which MCP servers there are now, if that is news to it and it can hear."""
        if worker.connected and not worker.ending and worker.equipped != self._template.servers:
            if worker.serves and not is_the_same(worker.serves, worker.equipped or (), self._template.servers):
                return  # it would end its server under the calls of all sessions; it ends itself, after the last one
            worker.equipped = self._template.servers
            self.send(worker, Equip(worker.equipped))

    # ---- taking over -------------------------------------------------------------------------------------------------

    def adopt_launcher(self, launcher: Launcher) -> None:
        """Called for each keeper that was claimed, before its workers are adopted, and before `start`."""
        self._roster.adopted.append(launcher)

    def adopt(self, heir: Heir) -> Worker:
        """Know a worker that an earlier hermesd started, before it says hello. Called before `start`.

        ``heir.claimed`` None: its keeper is dead, and ours will hold it. Raises `ContainmentError`.
        """
        row = heir.estate.row
        name = WorkerId(row.worker)
        opened, container = heir.open(self._template.instance)
        now = time.monotonic()
        worker = Worker(
            name,
            row.wire_name.encode(),
            row.tag,
            Link(self._codec, leads=True),
            container,
            started_at=row.started_at,
            launched=now - max(0.0, time.time() - row.started_at),
            containment=opened,
            proof=row.proof,
            adopted=True,
            session=SessionKey(row.session_key),
            pid=heir.pid,
            start_ticks=heir.start_ticks,
            last_heard=now,
        )
        if heir.claimed is not None:
            worker.launcher = self._roster.get(heir.claimed.record.pid)
        self._tokens.expect(name, row.proof)
        if self._keys is not None:
            self._keys.expect(name)
        if heir.estate.message is not None:
            worker.given.append(heir.estate.message.turn)
        self._register(worker)
        while name.endswith(f"-{self._boot}"):  # a name of ours must be nobody else's
            self._boot = secrets.token_hex(2)
        return worker

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _launch(self) -> Worker:
        self._count += 1
        name = WorkerId(f"w{self._count}-{self._boot}")
        # Unguessable: ZeroMQ hands the connection of a routing id over to whoever comes with the same one.
        wire_name = f"{name}.{secrets.token_hex(16)}"
        tag = tags.make_tag(self._template.instance)
        token = self._tokens.issue(name)
        now = time.monotonic()
        worker = Worker(
            name,
            wire_name.encode(),
            tag,
            Link(self._codec, leads=True),
            None,
            started_at=time.time(),
            launched=now,
            last_heard=now,
            proof=proof_of(token),
        )
        worker.spec = replace(
            self._template, worker=name, tag=tag, endpoint=self._endpoint, token=token, wire_name=wire_name,
            stacks=str(self.stacks_file(name)), curve=self._keys.issue(name) if self._keys is not None else None,
        )  # fmt: skip
        worker.equipped = self._template.servers
        self._register(worker)
        if self.launcher.state == "running":
            self._ask_for(worker)
        return worker

    def _register(self, worker: Worker) -> None:
        self._workers[worker.id] = worker
        self._by_identity[worker.identity] = worker

    def _ask_for(self, worker: Worker) -> None:
        """Have it started by the launcher that is there now; it may be another one than when it was wanted."""
        assert self._containment is not None
        assert worker.spec is not None
        worker.containment = self._containment
        worker.container = self._containment.worker(worker.id, worker.tag)
        worker.launcher = self.launcher
        spec, worker.spec = worker.spec, None
        self.launcher.launch(
            replace(
                spec, keeper=self.launcher.pid, containment=self.launcher.containment, container=worker.container.place
            )
        )

    def _refill(self) -> None:
        if self._closing:
            return
        spares = sum(1 for worker in self._workers.values() if worker.is_spare and not worker.ending)
        for _ in range(self._spare - spares):
            self._launch()

    def forked(self, message: Forked) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is not None:
            worker.pid, worker.start_ticks = message.pid, message.start_ticks
            if worker.session is not None:
                self._listener.worker_forked(worker)

    def fork_failed(self, message: ForkFailed) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is None:
            return
        if worker.pid:
            log.error("cannot hold worker %s any more: %s", worker.id, message.reason)
            self._forget(worker, Gone(worker.id, None, worker.cpu_seconds, 0, 0, 0.0))
            return
        log.error("cannot start a worker: %s", message.reason)
        self._forget(worker, Gone(worker.id, 70, 0.0, 0, 0, 0.0))

    def gone(self, message: Gone) -> None:
        worker = self._workers.get(WorkerId(message.worker))
        if worker is not None:
            self._forget(worker, message)

    def launcher_died(self, launcher: Launcher, reason: str) -> None:
        orphans = [worker for worker in self._workers.values() if worker.launcher is launcher]
        for worker in orphans:
            worker.launcher = None
        if orphans:
            log.warning("%d workers live on without their keeper %d", len(orphans), launcher.pid)
        if self._closed:
            return
        self._roster.died(launcher, reason)
        for worker in orphans:
            if not worker.pid:
                # Whether it was started cannot be known; if it was, it finds no keeper and ends itself.
                self._forget(worker, Gone(worker.id, None, 0.0, 0, 0, 0.0))
        if launcher is not self.launcher:
            self._hand_over()

    def _launcher_up(self) -> None:
        launcher = self.launcher
        self._containment = containment.open_containment(
            launcher.containment, self._template.instance, pid=launcher.pid
        )
        self._hand_over()
        self._refill()

    def _hand_over(self) -> None:
        """Give every worker without a launcher to our own, as soon as that is there."""
        if self.launcher.state != "running":
            return
        for worker in [worker for worker in self._workers.values() if worker.launcher is None]:
            if worker.spec is not None:
                self._ask_for(worker)
            else:
                worker.launcher = self.launcher
                self.launcher.take(worker.id, worker.tag, worker.pid, worker.start_ticks)
                self.send(worker, Kept(self.launcher.pid, self.launcher.start_ticks))
            if worker.doomed:  # also one whose keeper was told, and died over it
                self.launcher.kill(worker.id)

    def _forget(self, worker: Worker, gone: Gone) -> None:
        del self._workers[worker.id]
        del self._by_identity[worker.identity]
        self._tokens.revoke(worker.id)
        if self._keys is not None:
            self._keys.revoke(worker.id)
        worker.servers_changed.set()
        self._servers.gone(worker)
        if worker.timer is not None:
            worker.timer.cancel()
        worker.cpu_seconds = gone.cpu_seconds
        self.cpu_of_the_gone += gone.cpu_seconds
        stacks = self._stacks_dir / f"{worker.id}.txt"
        if worker.evidence:
            self._complete_evidence(worker, gone, stacks)
        if self.stacks_of(worker.id):
            self.prune_stacks(time.time())  # not once a day only: who crashes does so more often
        else:
            stacks.unlink(missing_ok=True)
        if self._holders is not None:
            self._holders.gone(worker, gone)
        if worker.session is not None:
            self._listener.worker_gone(worker, gone)
        elif worker.is_spare and not worker.ending and not self._closing:
            log.error("a spare worker died before it had a session, exit code %s", gone.exit_code)
        if not self._workers:
            self._all_gone.set()

    @staticmethod
    def _complete_evidence(worker: Worker, gone: Gone, stacks: Path) -> None:
        ended = f"ended, exit code {gone.exit_code}, {gone.left_over} more processes killed, {gone.took:.3f} s"
        try:
            evidence.add_stacks(Path(worker.evidence), stacks, ended)
        except OSError as error:
            log.error("cannot complete the evidence %s: %s", worker.evidence, error)

    # ---- the wire ----------------------------------------------------------------------------------------------------

    def _on_frame(self, identity: bytes, frame: bytes) -> None:
        worker = self._by_identity.get(identity)
        if worker is None:
            self._dropped.foreign()
            return
        if worker.disowned:
            self._dropped.of_disowned()
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
            hello, _, _, epoch = self._codec.decode(frame)
        except PeerError as error:
            self._dropped.unreadable(worker, error)
            return
        if worker.adopted and not isinstance(hello, Hello):
            return  # meant for the hermesd before; it will say it again
        if not isinstance(hello, Hello) or not self._tokens.redeem(worker.id, hello.token):
            self._dropped.hello(worker)
            return
        worker.connected = True
        worker.pid, worker.start_ticks = hello.pid, hello.start_ticks
        worker.last_heard = time.monotonic()
        # What was said to it before its hello goes after the welcome.
        early = worker.link.new_epoch(max(epoch, hello.epoch) + 1) if worker.adopted else ()
        worker.link.send(Welcome())
        for message in (*worker.errands, *early):
            worker.link.send(message)
        worker.errands.clear()
        if worker.ending and not worker.adopted:
            worker.link.send(Stop("not needed", self._template.stop_grace))
        elif worker.assign is not None:
            self._tell_session(worker)
        if not worker.adopted:
            self._equip(worker)
        self._flush(worker)

    def _tell_session(self, worker: Worker) -> None:
        assert worker.assign is not None
        worker.link.send(worker.assign)
        self._flush(worker)

    def _on_event(self, worker: Worker, event: Event, now: float) -> None:
        match event:
            case Received(message=message, seq=seq):
                worker.last_heard = now
                self._on_message(worker, message, seq, now)
            case Confirmed(message=message) | Delivered(message=message):
                self._listener.worker_has(worker, message)
            case Refused(error=error):
                self._dropped.unreadable(worker, error)

    def _on_message(self, worker: Worker, message: Message, seq: int, now: float) -> None:
        is_anothers = self._was_given if worker.adopted else None
        claim = false_claim(message, session=worker.session or "", given=worker.given, is_anothers=is_anothers)
        if claim:
            self._dropped.claim(worker, claim)
            self.kill(worker)
            return
        match message:
            case Heartbeat():
                worker.turn, worker.loop_age = message.turn, message.loop_age
                worker.told_cpu, worker.told_at, worker.beat = message.cpu_seconds, now, message.next_in
            case Hello():
                # Sent again before our welcome arrived; or by one without a keeper, to see whether hermesd lives.
                if matches(worker.proof, proof_of(message.token)):
                    worker.link.send(Welcome())
                else:
                    self._dropped.hello(worker)
            case Logs():
                self._listener.worker_logs(worker, message)
            case Servers():
                worker.servers = message.servers
                worker.servers_changed.set()
                if worker.adopted:
                    self._servers.taken_over(worker)
            case StartRequest() | ServerNews() | Listed():
                self._servers.said(worker, message)
            case SharedCall() | SharedCancel() | SharedResult():
                if self._holders is not None:
                    self._holders.said(worker, message)
            case TokenWanted():
                if self._on_token_wanted is not None:
                    self._on_token_wanted(message, partial(self.send, worker))
            case Ready():
                worker.ready = True
                self._listener.worker_ready(worker, message.error)
            case Snapshot():
                worker.ready = message.ready
                self._listener.worker_snapshot(worker, message)
                self._equip(worker)
            case _:
                self._listener.worker_said(worker, message, lambda: self._settle(worker, seq))

    def _was_given(self, turn: str) -> bool:
        return any(turn in worker.given for worker in self._workers.values())

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
