"""The keeper's poll loop: one supervisor's requests in, deaths and ends out.

Nothing here blocks. A kill is a state of a ward (`ward_life`), advanced by a round each time the loop comes by; a fork
takes a few milliseconds. While the supervisor is gone the workers go on; when it, or the next one, has not come for
``adopt_timeout``, everything is emptied.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import select
import signal
import sys
import time
from dataclasses import replace
from typing import NoReturn

from hermesd.ipc import keeping
from hermesd.ipc.version import VERSION
from hermesd.workers import containment
from hermesd.workers.containment import identity, prctl
from hermesd.workers.containment.ceiling import Ceiling, Hold
from hermesd.workers.containment.contract import Container
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.patience import LOOK_EVERY
from hermesd.workers.spec import KeeperSpec

from . import birth, guard
from .claims import Claims, Request
from .preload import preload
from .ward import Ward
from .ward_life import Event, State

log = logging.getLogger("hermesd.keeper")

ROUND_PAUSE = 0.002
"""Seconds between two rounds of emptying a container: a killed process needs about one to be gone."""

TAKEN_LOOK_EVERY = 1.0
"""Seconds between looks at what a taken worker has below it. Its orphans do not come to this keeper, so that without a
cgroup only what was seen before its death is found after it."""

GUARD_AGAIN = 1.0
"""Seconds before a guard that died is followed by the next one."""

STARTING_UP = 30.0
"""Seconds that the hermesd which has started the keeper has for its first claim."""

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
        self._wards: dict[str, Ward] = {}
        self._by_pid: dict[int, Ward] = {}
        self._ended: dict[str, keeping.Held] = {}  # whose `Gone` has not gone out
        self._guard = 0
        self._guard_due: float | None = None  # when to fork the next one
        self._next_look = 0.0
        self._retiring = False
        self._leaving = False

    def run(self) -> int:
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(asctime)s keeper %(levelname)s %(message)s"
        )
        # Small as long as nothing is imported, and there before the first worker is.
        self._guard = guard.start(self._spec)
        # Before the imports: the supervisor connects while they run, and waits in the backlog.
        self._claims = Claims(self._spec.socket, self._secret, self._ready)
        prctl.set_child_subreaper()
        choice = containment.choose(self._spec.instance, self._spec.containment)
        self._containment = choice.containment
        self._containment.prepare()
        self._ceilings = containment.Ceilings(self._spec.instance, getattr(self._containment, "base", ""))
        if self._guard:
            self._containment.register(self._guard)
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
            self._end_guard()
            try:
                self._containment.leave()
            finally:
                self._ceilings.leave()
                self._claims.close()
        return 0

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
            self._claims.register(poller)
            for ward in self._wards.values():
                if ward.taken and not ward.dead:
                    poller.register(ward.pidfd, select.POLLIN)
                if ward.hold.alarm >= 0 and not ward.out_of_memory:
                    poller.register(ward.hold.alarm, select.POLLIN)
            ready = dict(poller.poll(self._pause() * 1000))
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    while os.read(wake_read, 4096):
                        pass
            now = time.monotonic()
            for request in self._claims.serve(ready, now):
                self._handle(request, now)
            self._heed_alarms(ready, now)
            self._reap(now)
            self._notice_taken(now)
            self._advance(now)
            self._keep_guard(now)
            if not self._leaving and self._abandoned():
                log.warning("no supervisor for %.1f s: emptying everything", self._claims.alone.lasted)
                self._leave(now)
            if self._is_over():
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
            if ward.taken and not ward.container.place:
                due.append(max(0.0, self._next_look - now))
        if self._guard_due is not None:
            due.append(max(0.0, self._guard_due - now))
        if not self._claims.connected and not self._leaving:
            due.append(min(LOOK_EVERY, max(0.0, self._grace() - self._claims.alone.lasted)))
        return min(due)

    def _grace(self) -> float:
        # Until the first claim the supervisor may still be starting up: its life is what counts, not its silence.
        orphaned = self._spec.supervisor not in (0, os.getppid())
        return self._spec.adopt_timeout if self._claims.claimed or orphaned else STARTING_UP

    def _abandoned(self) -> bool:
        return not self._claims.connected and self._claims.alone.lasted >= self._grace()

    def _is_over(self) -> bool:
        """A retired keeper stays for the next supervisor as long as that one has to be told of an end."""
        if self._wards:
            return False
        return self._leaving or (self._retiring and not any(self._claims.waiting))

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _handle(self, request: Request, now: float) -> None:
        descriptor = request.descriptor
        try:
            match request.message:
                case keeping.Fork() as fork:
                    self._fork(fork, descriptor)
                case keeping.Kill() as kill:
                    self._kill(kill, now)
                case keeping.Take() as take:
                    self._take(take, now)
                case keeping.Retire():
                    self._retiring = True
                case keeping.Leave():
                    self._leave(now)
                case other:
                    log.warning("ignored a %s", other.KIND)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _ready(self) -> keeping.KeeperReady:
        return keeping.KeeperReady(
            pid=os.getpid(),
            start_ticks=identity.start_ticks(os.getpid()) or 0,
            version=VERSION,
            containment=self._containment.name,
            refused=self._refused,
            forks=self._forks,
            warnings=self._preloaded.warnings,
            workers=self._held(),
            guard=self._guard,
            memory_limit=self._ceilings.memory,
            tasks_limit=self._ceilings.tasks,
        )

    def _held(self) -> tuple[keeping.Held, ...]:
        """Every worker whose `Gone` has not gone out, the dead among them."""
        untold = {message.worker for message in self._claims.waiting if isinstance(message, keeping.Gone)}
        self._ended = {worker: held for worker, held in self._ended.items() if worker in untold}
        return (*self._ended.values(), *(ward.held() for ward in self._wards.values()))

    def _leave(self, now: float) -> None:
        self._leaving = True
        for ward in self._wards.values():
            ward.apply(Event.KILL, now)

    # ---- wards -------------------------------------------------------------------------------------------------------

    def _fork(self, request: keeping.Fork, spec_fd: int | None) -> None:
        refusal = self._refusal()
        if refusal or spec_fd is None:
            reason = refusal or "no descriptor came with the request"
            return self._claims.send(keeping.ForkFailed(request.worker, reason))
        container = self._containment.worker(request.worker, request.tag)
        pid, hold = 0, Hold()
        try:
            container.create()
            ceiling = Ceiling(request.memory_bytes, request.tasks)
            hold = self._ceilings.hold(request.worker, ceiling, container.place)
            pid = self._bring_up(container, hold, request.tag, spec_fd)
            # Safe without a check of the start time: the child is ours and cannot be reaped before we do it.
            container.started(pid)
            self._containment.register(pid)
            ward = Ward(request.worker, pid, os.pidfd_open(pid), identity.start_ticks(pid) or 0, container, hold=hold)
        except (ContainmentError, OSError) as error:
            self._undo(container, hold, pid)
            return self._claims.send(keeping.ForkFailed(request.worker, str(error)))
        self._wards[ward.worker] = ward
        self._by_pid[pid] = ward
        self._claims.send(keeping.Forked(ward.worker, pid, ward.start_ticks))

    def _refusal(self) -> str:
        """Why nothing is forked any more, "" if it is."""
        if self._leaving:
            return "this keeper leaves"
        if self._retiring:
            return "this keeper retires"
        if self._claims.protocol != keeping.PROTOCOL:
            return f"this keeper speaks protocol {keeping.PROTOCOL}, its supervisor {self._claims.protocol}"
        return ""

    def _undo(self, container: Container, hold: Hold, pid: int) -> None:
        """Leave nothing of a worker that could not be made; short of descriptors, for one."""
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._containment.unregister(pid)
        with contextlib.suppress(ContainmentError):
            container.kill_round()
            hold.release()

    def _bring_up(self, container: Container, hold: Hold, tag: str, spec_fd: int) -> int:
        """A new worker process in its container, by fork where that is sound and by exec where it is not."""
        if not self._forks:
            return birth.spawn(tag, spec_fd, hold.places)
        pid = container.fork()
        if pid == 0:
            self._become_worker(container, hold, spec_fd)
        return pid

    def _become_worker(self, container: Container, hold: Hold, spec_fd: int) -> NoReturn:
        status = 70
        try:
            birth.cut_loose(keep=(spec_fd,))
            container.enter()
            hold.enter()
            from hermesd.workers.main import read_spec, run

            status = run(read_spec(spec_fd))
        except BaseException:
            logging.exception("the worker could not start")
        finally:
            os._exit(status)

    def _take(self, request: keeping.Take, now: float) -> None:
        """Hold a worker that another keeper forked."""
        ward = self._wards.get(request.worker)
        if ward is not None:
            return self._claims.send(keeping.Forked(ward.worker, ward.pid, ward.start_ticks))
        root = identity.Identity(request.pid, request.start_ticks)
        pidfd = identity.open_pidfd(root)
        container = containment.take(self._spec.instance, request.worker, request.tag, root)
        # Without a process there is nothing to wait for; what it left is emptied all the same.
        ward = Ward(request.worker, request.pid, -1 if pidfd is None else pidfd, request.start_ticks, container)
        ward.hold = self._ceilings.find(request.worker)
        ward.taken = True
        self._wards[ward.worker] = ward
        if pidfd is not None and not identity.is_dead(pidfd):
            return self._claims.send(keeping.Forked(ward.worker, ward.pid, ward.start_ticks))
        ward.dead = True
        ward.apply(Event.EXITED, now)

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

    def _heed_alarms(self, ready: dict[int, int], now: float) -> None:
        """What has run out of memory has lost one of its processes already: it ends as a whole."""
        for ward in self._wards.values():
            if ward.hold.alarm in ready and not ward.out_of_memory:
                ward.out_of_memory = True
                ward.apply(Event.KILL, now)

    def _reap(self, now: float) -> None:
        """Collect the dead: workers, the guard, and the orphans that came to us as their subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._guard:
                self._containment.unregister(pid)
                self._guard, self._guard_due = 0, now + GUARD_AGAIN
            ward = self._by_pid.pop(pid, None)
            if ward is None:
                continue
            self._containment.unregister(pid)
            ward.reaped(status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
            ward.apply(Event.EXITED, now)

    def _notice_taken(self, now: float) -> None:
        taken = [ward for ward in self._wards.values() if ward.taken and not ward.dead]
        for ward in taken:
            if identity.is_dead(ward.pidfd):
                ward.dead = True
                ward.apply(Event.EXITED, now)
        if taken and now >= self._next_look:
            self._next_look = now + TAKEN_LOOK_EVERY
            for ward in taken:
                if not ward.container.place:
                    ward.container.members()

    def _advance(self, now: float) -> None:
        for ward in list(self._wards.values()):
            if ward.state is State.DUMPING and now >= ward.deadline:
                ward.apply(Event.DUMP_TIME_OVER, now)
            if ward.state is State.EMPTYING:
                self._empty(ward, now)

    def _empty(self, ward: Ward, now: float) -> None:
        if ward.left_over is None:
            ward.left_over = len([pid for pid in ward.container.members() if pid != ward.pid])
        roots = () if ward.dead else (ward.pidfd,)
        ward.out_of_memory = ward.out_of_memory or ward.hold.ran_out()
        try:
            over = ward.emptied or ward.container.kill_round(roots)
        except ContainmentError as error:
            log.error("cannot empty %s yet: %s", ward.worker, error)
            return
        if over and not ward.emptied:
            self._release(ward)
        ward.emptied = over
        if not over or not ward.status_known(now):
            return
        ward.apply(Event.EMPTIED, now)
        del self._wards[ward.worker]
        self._ended[ward.worker] = ward.held()
        ward.close()
        self._claims.send(
            keeping.Gone(
                worker=ward.worker,
                exit_code=ward.exit_code,
                # Without a cgroup a worker that was reaped is no longer in its container's figure.
                cpu_seconds=max(ward.container.cpu_seconds(), ward.own_cpu),
                max_rss=ward.max_rss,
                left_over=ward.left_over or 0,
                took=time.monotonic() - ward.died_at,
                out_of_memory=ward.out_of_memory,
            )
        )
        self._held()

    @staticmethod
    def _release(ward: Ward) -> None:
        try:
            ward.hold.release()
        except ContainmentError as error:
            log.error("%s; the next start of hermesd removes it", error)

    # ---- the guard ---------------------------------------------------------------------------------------------------

    def _keep_guard(self, now: float) -> None:
        if self._guard_due is None or now < self._guard_due or self._leaving:
            return
        log.warning("the guard died: forking another")
        self._guard_due = None
        self._guard = guard.start(self._spec)
        if self._guard:
            self._containment.register(self._guard)

    def _end_guard(self) -> None:
        """The wards are gone: nothing is left to guard."""
        if self._guard:
            # Nobody but this process reaps its children: until then the number is the guard's.
            pidfd = os.pidfd_open(self._guard)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            os.waitpid(self._guard, 0)
            self._containment.unregister(self._guard)
            self._guard = 0
