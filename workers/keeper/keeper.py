"""The keeper's poll loop: one supervisor's requests in, deaths and ends out.

Nothing here blocks. A kill is a state of a ward (`ward_life`), advanced by a round each time the loop comes by; a fork
takes a few milliseconds. When the supervisor is gone for longer than ``adopt_timeout`` everything is emptied.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import replace
from typing import NoReturn

from hermesd.ipc import codec, framing, keeping
from hermesd.ipc.errors import PeerError
from hermesd.ipc.messages import Message
from hermesd.ipc.version import VERSION
from hermesd.workers import containment
from hermesd.workers.containment import identity, prctl
from hermesd.workers.containment.contract import Container
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.spec import KeeperSpec

from . import birth
from .preload import preload
from .ward import Ward
from .ward_life import Event, State

log = logging.getLogger("hermesd.keeper")

ROUND_PAUSE = 0.002
"""Seconds between two rounds of emptying a container: a killed process needs about one to be gone."""

UNCLAIMED_SECONDS = 30.0
"""What a supervisor that lives may take from the start of its keeper to the claim."""

PARENT_CHECK = 1.0
"""Seconds between two looks at whether it does."""

MAX_CLAIMANTS = 4
"""Connections that have proved nothing; one more and the oldest goes."""

ALWAYS_PRELOADED = (
    "asyncio",
    "zmq",
    "msgpack",
    "hermesd.workers.main",
)


class Keeper:
    """One keeper process. ``run`` returns its exit status."""

    def __init__(self, spec: KeeperSpec):
        # Every worker is a copy of this heap: what proves a supervisor must not be readable there.
        self._secret = hashlib.sha256(spec.secret.encode()).digest()
        self._spec = replace(spec, secret="")
        self._codec = codec.Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)
        self._wards: dict[str, Ward] = {}
        self._by_pid: dict[int, Ward] = {}
        self._connection: socket.socket | None = None
        self._claimants: dict[int, tuple[socket.socket, framing.Deframer]] = {}  # connected, and proved nothing yet
        self._deframer = framing.Deframer()
        self._claimed = False
        self._descriptors: list[int] = []
        self._unsent = b""
        self._alone_since: float | None = time.monotonic()
        self._leaving = False

    def run(self) -> int:
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(asctime)s keeper %(levelname)s %(message)s"
        )
        # Before the imports: the supervisor connects while they run, and waits in the backlog.
        self._listener = self._listen()
        prctl.set_child_subreaper()
        choice = containment.choose(self._spec.instance, self._spec.containment)
        self._containment = choice.containment
        self._containment.prepare()
        self._refused = tuple(f"{name}: {reason}" for name, reason in choice.refused)
        sys.path[:0] = self._spec.agent_path
        self._preloaded = preload(
            (*ALWAYS_PRELOADED, *self._spec.preload), probed=birth.agent_modules(self._spec.agent)
        )
        for warning in self._preloaded.warnings:
            log.warning("%s", warning)
        self._forks = self._spec.start_by == "fork" and self._preloaded.single_threaded
        try:
            self._loop()
        finally:
            self._containment.leave()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._spec.socket)
        return 0

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._spec.socket)
        old = os.umask(0o077)
        try:
            listener.bind(self._spec.socket)
        finally:
            os.umask(old)
        listener.listen(4)
        return listener

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # The keeper ends when its supervisor is gone or says so; a terminal's Ctrl-C is the supervisor's business.
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        while True:
            poller = select.poll()
            poller.register(wake_read, select.POLLIN)
            poller.register(self._listener, select.POLLIN)
            for claimant, _ in self._claimants.values():
                poller.register(claimant, select.POLLIN)
            if self._connection is not None:
                poller.register(self._connection, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            ready = dict(poller.poll(self._pause() * 1000))
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    while os.read(wake_read, 4096):
                        pass
            now = time.monotonic()
            if self._listener.fileno() in ready:
                self._accept()
            for descriptor in [descriptor for descriptor in self._claimants if descriptor in ready]:
                self._hear(descriptor, now)
            if self._connection is not None and self._connection.fileno() in ready:
                self._serve(now)
            self._reap(now)
            self._advance(now)
            if self._abandoned(now):
                log.warning("no supervisor for %.1f s: emptying everything", self._spec.adopt_timeout)
                self._leave(now)
            if self._leaving and not self._wards:
                self._flush()
                return

    def _pause(self) -> float:
        """Seconds until something is due even if nothing happens."""
        now = time.monotonic()
        due = [30.0]
        for ward in self._wards.values():
            if ward.state is State.EMPTYING:
                due.append(ROUND_PAUSE)
            elif ward.state is State.DUMPING:
                due.append(max(0.0, ward.deadline - now))
        if self._alone_since is not None and not self._leaving:
            due.append(max(0.0, self._alone_since + self._grace() - now))
            if not self._claimed:
                due.append(PARENT_CHECK)
        return min(due)

    def _grace(self) -> float:
        # Until the first claim the supervisor may still be starting up: its life is what counts, not its silence.
        orphaned = self._spec.supervisor not in (0, os.getppid())
        return self._spec.adopt_timeout if self._claimed or orphaned else UNCLAIMED_SECONDS

    def _abandoned(self, now: float) -> bool:
        return self._alone_since is not None and not self._leaving and now - self._alone_since >= self._grace()

    # ---- the supervisor's side ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if hasattr(socket, "SO_PEERCRED"):
            packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            peer, uid, _ = struct.unpack("3i", packed)
            if uid != os.getuid():
                log.warning("refused a connection of uid %d", uid)
                connection.close()
                return
            if self._is_below(peer):
                log.warning("refused a connection of pid %d: it is one of ours", peer)
                connection.close()
                return
        connection.setblocking(False)
        if len(self._claimants) >= MAX_CLAIMANTS:
            oldest, _ = self._claimants.pop(next(iter(self._claimants)))
            oldest.close()
        self._claimants[connection.fileno()] = (connection, framing.Deframer())

    @staticmethod
    def _is_below(pid: int) -> bool:
        """Whether a process is a descendant of the keeper: a worker, or something that one has started."""
        keeper = os.getpid()
        while pid > 1:
            if pid == keeper:
                return True
            fields = identity.stat_fields(pid)
            pid = int(fields[1]) if fields is not None else 0
        return False

    def _hear(self, descriptor: int, now: float) -> None:
        """Let somebody who is connected prove that he is the supervisor; who is that already goes on meanwhile."""
        connection, deframer = self._claimants[descriptor]
        try:
            data = connection.recv(4096)
            frames = deframer.feed(data) if data else []
            claims = [self._codec.decode(frame).message for frame in frames]
        except (OSError, PeerError) as error:
            log.warning("dropped a connection that did not claim: %s", error)
            data, claims = b"", []
        if data and not claims:
            return
        del self._claimants[descriptor]
        claim = claims[0] if claims else None
        digest = hashlib.sha256(claim.secret.encode()).digest() if isinstance(claim, keeping.Claim) else b""
        if not hmac.compare_digest(digest, self._secret):
            if data:
                log.error("refused a claim with a wrong secret")
            connection.close()
            return
        # The newest claim wins: a supervisor that lost its connection must not be locked out by its own ghost.
        self._disconnect()
        self._connection, self._deframer = connection, deframer
        self._claimed = True
        self._alone_since = None
        self._send(self._ready())
        for message in claims[1:]:
            self._handle(message, now)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._unsent = b""
        if self._alone_since is None:
            self._alone_since = time.monotonic()

    def _serve(self, now: float) -> None:
        self._flush()
        if self._connection is None:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, 65536, 16)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("lost the supervisor: %s", error)
            return self._disconnect()
        self._descriptors.extend(descriptors)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not data:
            return self._disconnect()
        try:
            messages = [self._codec.decode(frame).message for frame in self._deframer.feed(data)]
        except PeerError as error:
            log.error("dropped the connection: %s", error)
            return self._disconnect()
        for message in messages:
            self._handle(message, now)

    def _handle(self, message: Message, now: float) -> None:
        if isinstance(message, keeping.Fork):
            self._fork(message)
        elif isinstance(message, keeping.Kill):
            self._kill(message, now)
        elif isinstance(message, keeping.Leave):
            self._leave(now)

    def _ready(self) -> keeping.KeeperReady:
        return keeping.KeeperReady(
            pid=os.getpid(),
            start_ticks=identity.start_ticks(os.getpid()) or 0,
            version=VERSION,
            containment=self._containment.name,
            refused=self._refused,
            forks=self._forks,
            warnings=self._preloaded.warnings,
            workers=(),
        )

    def _send(self, message: Message) -> None:
        if self._connection is not None:
            self._unsent += framing.frame(self._codec.encode(message))
            self._flush()

    def _flush(self) -> None:
        if self._connection is None or not self._unsent:
            return
        try:
            sent = self._connection.send(self._unsent)
            self._unsent = self._unsent[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("lost the supervisor: %s", error)
            self._disconnect()

    # ---- wards -------------------------------------------------------------------------------------------------------

    def _fork(self, request: keeping.Fork) -> None:
        if not self._descriptors:
            return self._send(keeping.ForkFailed(request.worker, "no descriptor came with the request"))
        spec_fd = self._descriptors.pop(0)
        container = self._containment.worker(request.worker, request.tag)
        pid = 0
        try:
            pid = self._bring_up(container, request.tag, spec_fd)
            # Safe without a check of the start time: the child is ours and cannot be reaped before we do it.
            container.started(pid)
            self._containment.register(pid)
            ward = Ward(request.worker, pid, os.pidfd_open(pid), identity.start_ticks(pid) or 0, container)
        except (ContainmentError, OSError) as error:
            self._undo(container, pid)
            return self._send(keeping.ForkFailed(request.worker, str(error)))
        finally:
            os.close(spec_fd)
        self._wards[ward.worker] = ward
        self._by_pid[pid] = ward
        self._send(keeping.Forked(ward.worker, pid, ward.start_ticks))

    def _undo(self, container: Container, pid: int) -> None:
        """Leave nothing of a worker that could not be made; short of descriptors, for one."""
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._containment.unregister(pid)
        with contextlib.suppress(ContainmentError):
            container.kill_round()

    def _bring_up(self, container: Container, tag: str, spec_fd: int) -> int:
        """A new worker process in its container, by fork where that is sound and by exec where it is not."""
        container.create()
        if not self._forks:
            return birth.spawn(tag, spec_fd)
        pid = container.fork()
        if pid == 0:
            self._become_worker(container, spec_fd)
        return pid

    def _become_worker(self, container: Container, spec_fd: int) -> NoReturn:
        status = 70
        try:
            birth.cut_loose(keep=(spec_fd,))
            container.enter()
            from hermesd.workers.main import read_spec, run

            status = run(read_spec(spec_fd))
        except BaseException:
            logging.exception("the worker could not start")
        finally:
            os._exit(status)

    def _kill(self, request: keeping.Kill, now: float) -> None:
        ward = self._wards.get(request.worker)
        if ward is None:
            return
        if request.dump and ward.state is State.RUNNING:
            ward.apply(Event.DUMP_THEN_KILL, now)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(ward.pidfd, signal.SIGUSR1)
                # A stopped process writes no dump before it is continued.
                signal.pidfd_send_signal(ward.pidfd, signal.SIGCONT)
        elif not request.dump:
            ward.apply(Event.KILL, now)

    def _reap(self, now: float) -> None:
        """Collect the dead: workers, and the orphans that came to us as their subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ward = self._by_pid.pop(pid, None)
            if ward is None:
                continue
            self._containment.unregister(pid)
            ward.reaped(status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
            ward.apply(Event.EXITED, now)

    def _advance(self, now: float) -> None:
        for ward in list(self._wards.values()):
            if ward.state is State.DUMPING and now >= ward.deadline:
                ward.apply(Event.DUMP_TIME_OVER, now)
            if ward.state is State.EMPTYING:
                self._empty(ward, now)

    def _empty(self, ward: Ward, now: float) -> None:
        if ward.left_over is None:
            ward.left_over = len([pid for pid in ward.container.members() if pid != ward.pid])
        roots = () if ward.exit_code is not None else (ward.pidfd,)
        try:
            over = ward.container.kill_round(roots)
        except ContainmentError as error:
            log.error("cannot empty %s yet: %s", ward.worker, error)
            return
        if not over or ward.exit_code is None:
            return
        ward.apply(Event.EMPTIED, now)
        del self._wards[ward.worker]
        ward.close()
        self._send(
            keeping.Gone(
                worker=ward.worker,
                exit_code=ward.exit_code,
                # Without a cgroup a worker that was reaped is no longer in its container's figure.
                cpu_seconds=max(ward.container.cpu_seconds(), ward.own_cpu),
                max_rss=ward.max_rss,
                left_over=ward.left_over or 0,
                took=time.monotonic() - ward.died_at,
            )
        )

    def _leave(self, now: float) -> None:
        self._leaving = True
        for ward in self._wards.values():
            ward.apply(Event.KILL, now)
