"""What is the same for every keeper, whoever started it: its process by a pidfd, its connection, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path

from hermesd.ipc import keeping
from hermesd.ipc.messages import Message
from hermesd.supervisor.instance.errors import HomeUnusable
from hermesd.supervisor.instance.keepers import KeeperRecord, Keepers
from hermesd.supervisor.patience import insist_in

from .connection import KeeperConnection
from .contract import LauncherListener

log = logging.getLogger("hermesd.pool.keeper")

LOST_SECONDS = 1.0
"""A keeper that hung up is about to end. One that lives on for this long can no longer be told anything: it is killed,
and its workers are another keeper's then."""


class HeldKeeper:
    """One keeper process. Its list entry lives as long as it does."""

    def __init__(self, listener: LauncherListener, keepers: Keepers):
        self._listener = listener
        self._keepers = keepers
        self._record: KeeperRecord | None = None
        self._connection: KeeperConnection | None = None
        self._pidfd = -1
        self._dead: asyncio.Future[None] | None = None
        self._stopping = False
        self.containment = ""
        self.refused: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.memory_limit = self.tasks_limit = ""
        self.forks = True
        self.started_at = 0.0
        self.state = "starting"
        self.pid = 0
        self.start_ticks = 0
        self.owes_since = 0.0
        self._owed: dict[str, type[Message]] = {}  # by worker: the answer that ends the wait

    def kill(self, worker: str, *, dump: bool = False) -> None:
        self._ask(worker, keeping.Gone, keeping.Kill(worker, dump))

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None:
        self._ask(worker, keeping.Forked, keeping.Take(worker, tag, pid, start_ticks))

    def end_hung(self) -> None:
        if self._pidfd >= 0:
            self._kill_it()

    async def stop(self, timeout: float) -> None:
        if self._pidfd < 0 or self._dead is None:
            return
        self._stopping = True
        self.state = "leaving"
        self._send(keeping.Leave())
        try:
            await asyncio.wait_for(asyncio.shield(self._dead), max(timeout, 0.1))
        except TimeoutError:
            log.error("the keeper %d did not leave within %.1f s: killing it", self.pid, timeout)
            self._kill_it()
            await self._dead

    def leave_alone(self) -> None:
        self._stopping = True
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._connection is not None:
            self._connection.close()

    # ---- for the two kinds -------------------------------------------------------------------------------------------

    def _watch(self, pidfd: int) -> None:
        """From here on its death is noticed; the pidfd is ours."""
        loop = asyncio.get_running_loop()
        self._pidfd = pidfd
        self._dead = loop.create_future()
        loop.add_reader(pidfd, self._died)

    def _describe(self, ready: keeping.KeeperReady) -> None:
        self.containment, self.refused, self.warnings = ready.containment, ready.refused, ready.warnings
        self.forks = ready.forks
        self.memory_limit, self.tasks_limit = ready.memory_limit, ready.tasks_limit

    def _ended(self, status: int | None) -> None:
        """It is dead; ``status`` as subprocess has it, None where it was no child of ours."""
        raise NotImplementedError

    def _ask(self, worker: str, answer: type[Message], message: Message, descriptor: int | None = None) -> None:
        if not self._owed:
            self.owes_since = time.monotonic()
        self._owed[worker] = answer
        self._send(message, descriptor)

    def _heard(self, message: keeping.Forked | keeping.ForkFailed | keeping.Gone) -> None:
        """Any answer is a sign of life, also for those that are still owed."""
        if isinstance(message, keeping.Forked) and self._owed.get(message.worker) is keeping.Gone:
            pass  # the one that was asked for first
        else:
            self._owed.pop(message.worker, None)
        self.owes_since = time.monotonic() if self._owed else 0.0

    def _send(self, message: Message, descriptor: int | None = None) -> None:
        if self._connection is not None:
            self._connection.send(message, descriptor)
        elif descriptor is not None:
            os.close(descriptor)

    def _handle(self, message: Message) -> None:
        if isinstance(message, keeping.Forked | keeping.ForkFailed | keeping.Gone):
            self._heard(message)
        match message:
            case keeping.Forked():
                self._listener.forked(message)
            case keeping.ForkFailed():
                self._listener.fork_failed(message)
            case keeping.Gone():
                self._listener.gone(message)
            case _:
                log.warning("ignored a %s of the keeper", message.KIND)

    def _lost(self) -> None:
        if not self._stopping and self._pidfd >= 0:
            self.state = "lost"
            insist_in(LOST_SECONDS, self._insist)

    def _insist(self) -> None:
        if not self._stopping and self._pidfd >= 0:
            log.error("the keeper %d has hung up and lives on: killing it", self.pid)
            self._kill_it()

    def _kill_it(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        status = _reap(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._connection is not None:
            self._connection.drain()
        self.state = "gone"
        if self._record is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(Path(self._record.socket))
            try:
                self._keepers.drop(self._record)
            except HomeUnusable as error:  # a dead one on the list is passed over at the next start
                log.error("%s", error)
        assert self._dead is not None
        self._dead.set_result(None)
        self._ended(status)


def _reap(pidfd: int) -> int | None:
    """The exit status of a child, also of one that was started before this process was exec'd anew."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
