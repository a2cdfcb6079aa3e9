"""The keeper as a launcher: start it by exec, claim it by the instance's secret, pass requests on.

It is exec'd so that nothing of the supervisor's heap, which holds the platform tokens, gets below it. Its environment
is the one its workers start from: a clean list, no token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hermesd.ipc import codec, keeping
from hermesd.ipc.messages import Message
from hermesd.supervisor.errors import StartFailed
from hermesd.supervisor.instance.keepers import KeeperRecord, Keepers
from hermesd.supervisor.instance.process import start_ticks
from hermesd.workers import elsewhere
from hermesd.workers.spec import KeeperSpec, WorkerSpec

from .connection import KeeperConnection
from .contract import LauncherListener
from .held import HeldKeeper

READY_SECONDS = 60.0
"""A keeper that has not imported what workers need by then never will; a slow disk has been seen to take ten."""


class KeeperLauncher(HeldKeeper):
    """Implements `hermesd.supervisor.pool.launchers.contract.Launcher` with one keeper process.

    ``lock``: the instance's lock file, which the keeper's guard watches; None = there is no guard. ``python``: the
    interpreter of keeper and workers; "" = the one that runs hermesd.
    """

    def __init__(
        self,
        listener: LauncherListener,
        *,
        instance: str,
        run_dir: Path,
        log_file: Path,
        environment: Mapping[str, str],
        containment: str,
        agent: str,
        agent_path: Sequence[str],
        preload: Sequence[str],
        adopt_timeout: float,
        keepers: Keepers,
        lock: Path | None = None,
        start_by: str = "fork",
        python: str = "",
    ):
        super().__init__(listener, keepers)
        self._path = run_dir / f"keeper-{secrets.token_hex(4)}.sock"
        self._log_file = log_file
        self._environment = dict(environment)
        self._python = python
        self._spec = KeeperSpec(
            instance=instance,
            secret=secrets.token_hex(16),
            socket=str(self._path),
            containment=containment,
            adopt_timeout=adopt_timeout,
            supervisor=os.getpid(),
            preload=tuple(preload),
            agent=agent,
            agent_path=tuple(agent_path),
            lock=str(lock) if lock is not None else "",
            keepers=str(keepers.path),
            start_by=start_by,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: asyncio.Future[keeping.KeeperReady] | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._spawn()
        try:
            await asyncio.wait_for(self._connect_and_claim(loop), READY_SECONDS)
        except TimeoutError:
            await self.stop(0.0)
            raise StartFailed(f"the keeper was not ready within {READY_SECONDS:g} s; see {self._log_file}") from None
        except asyncio.CancelledError:
            await self.stop(0.0)
            raise

    def _spawn(self) -> None:
        told_read, told_write = os.pipe()
        try:
            with open(self._log_file, "ab") as log_stream:
                self._process = subprocess.Popen(
                    elsewhere.command("hermesd.workers.keeper", self._python),
                    stdin=told_read,
                    stdout=log_stream,
                    stderr=log_stream,
                    env={**self._environment, "HERMESD_TAG": f"{self._spec.instance}-{secrets.token_hex(16)}"},
                    start_new_session=True,
                    # Every descriptor of ours is close-on-exec. Closing them by number would need /proc/self/fd, which
                    # an undumpable process of an ordinary user cannot read, and then means a million close calls.
                    close_fds=False,
                )
        except OSError as error:
            os.close(told_write)
            raise StartFailed(f"cannot start the keeper: {error}") from error
        finally:
            os.close(told_read)
        self.pid = self._process.pid
        self.start_ticks = start_ticks(self.pid)
        self.started_at = time.time()
        with contextlib.suppress(BrokenPipeError), os.fdopen(told_write, "wb") as told:
            self._watch(os.pidfd_open(self.pid))
            # On the list before it is told anything: without its spec it ends, with it a successor of ours finds it.
            self._record = KeeperRecord(self.pid, self.start_ticks, str(self._path), self._spec.secret)
            self._keepers.add(self._record)
            # A keeper that dies before it was told anything breaks the pipe; its death is told by the pidfd.
            told.write(codec.pack_value(self._spec))

    def _ended(self, status: int | None) -> None:
        assert self._process is not None
        assert self._ready is not None
        self._process.returncode = status if status is not None else 0
        reason = f"the keeper ended with status {status}; see {self._log_file}"
        if not self._ready.done():
            self._ready.set_exception(StartFailed(reason))
        elif not self._stopping:
            self._listener.launcher_died(self, reason)

    async def _connect_and_claim(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._ready is not None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            while not self._ready.done():
                try:
                    await loop.sock_connect(sock, str(self._path))
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    # The keeper listens within some 50 ms of its start, before its long imports; nothing tells of it.
                    await asyncio.sleep(0.005)
            else:
                self._ready.result()
        except BaseException:
            sock.close()
            raise
        self._connection = KeeperConnection(sock, self._handle, self._lost)
        self._send(keeping.Claim(self._spec.secret))
        self._describe(await self._ready)
        self.state = "running"

    def launch(self, spec: WorkerSpec) -> None:
        # A memory file, not a pipe: a long list of servers would fill a pipe and block the event loop.
        told = os.memfd_create(f"spec-{spec.worker}", os.MFD_CLOEXEC)
        os.write(told, codec.pack_value(spec))
        os.lseek(told, 0, os.SEEK_SET)
        fork = keeping.Fork(spec.worker, spec.tag, spec.memory_bytes, spec.tasks)
        self._ask(spec.worker, keeping.Forked, fork, told)

    def _handle(self, message: Message) -> None:
        if isinstance(message, keeping.KeeperReady):
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(message)
            return
        super()._handle(message)
