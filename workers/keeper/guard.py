"""The guard: a small process beside the keeper that empties the instance when keeper and hermesd are both dead.

The keeper forks it before its large imports, and another one should it die. It knows nothing of workers: it waits for
the keeper's death, then looks at the instance's lock, and what it kills is found by tag and by cgroup. A keeper that
ends in order kills its guard first.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable

from hermesd.workers import containment
from hermesd.workers.containment import sweep
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.containment.identity import wait_dead
from hermesd.workers.patience import LOOK_EVERY
from hermesd.workers.spec import KeeperSpec

from . import birth, keepers, lock_probe
from .guard_life import Seen, State, Watch

log = logging.getLogger("hermesd.guard")

NAME = "hermesd-guard"
"""As ``ps`` and ``top`` show it; the kernel keeps 15 characters."""

ROUND_PAUSE = 0.005
"""Seconds between two rounds of killing."""


def start(spec: KeeperSpec) -> int:
    """Fork the guard of the calling keeper; returns its pid, 0 where there is none: no lock to look at, or no Linux."""
    if not spec.lock or sys.platform != "linux":
        return 0
    keeper = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        try:
            _become(spec, keeper)
        except BaseException:
            logging.exception("the guard failed")
        finally:
            os._exit(0)
    os.close(keeper)
    return pid


def _become(spec: KeeperSpec, keeper: int) -> None:
    os.setsid()
    birth.cut_loose(keep=(keeper,))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(NAME)
    try:
        containment.step_out(spec.instance)
    except ContainmentError as error:
        log.warning("the guard stays in the keeper's cgroup: %s", error)
    Guard(spec, keeper).run()


class Guard:
    """What it does in between is decided by `guard_life`. ``keeper``: a pidfd."""

    def __init__(self, spec: KeeperSpec, keeper: int):
        self._spec = spec
        self._keeper = keeper
        self._alone: int | None = None  # the descriptor by which no other guard kills at the same time
        self._clean_rounds = 0

    def run(self) -> None:
        """Returns when there is nothing left to guard."""
        while not wait_dead(self._keeper, 3600.0):
            continue
        watch = Watch()
        while watch.state is not State.OVER:
            before = watch.state
            watch = watch.look(self._look(), time.monotonic(), self._spec.adopt_timeout)
            if watch.state is not before:
                log.warning("guard: %s", watch.state)
            if watch.state is State.KILLING and self._may_kill():
                if self._kill_round():
                    watch = watch.clean()
                time.sleep(ROUND_PAUSE)
            elif watch.state is not State.OVER:
                time.sleep(LOOK_EVERY)

    def _look(self) -> Seen:
        try:
            held = lock_probe.is_held(self._spec.lock)
        except OSError as error:
            log.error("cannot see who holds %s, taking it for held: %s", self._spec.lock, error)
            held = True
        return Seen(held, any(keeper.lives for keeper in keepers.read(self._spec.keepers)))

    def _may_kill(self) -> bool:
        """One guard at a time: two would kill each other, and leave the rest."""
        if self._alone is None:
            try:
                directory = os.open(os.path.dirname(self._spec.socket), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return True  # its home was removed, and no new hermesd can come there
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(directory)
                return False
            self._alone = directory
        return True

    def _kill_round(self) -> bool:
        """Whether two rounds in a row have found nothing."""
        try:
            found = sweep.sweep_round(self._spec.instance)
        except ContainmentError as error:
            log.error("cannot empty the instance yet: %s", error)
            return False
        for leftover in found:
            log.warning("killed %d (%s): %s", leftover.pid, leftover.proof, leftover.command)
        self._clean_rounds = 0 if found or sweep.left_places(self._spec.instance) else self._clean_rounds + 1
        if self._clean_rounds < 2:
            return False
        listed = keepers.read(self._spec.keepers)
        self._remove([self._spec.socket, *(keeper.socket for keeper in listed if not keeper.lives)])
        return True

    @staticmethod
    def _remove(sockets: Iterable[str]) -> None:
        for path in sockets:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
