"""The keeper as a launcher: start it by exec, claim it by the instance's secret, pass requests on.

It is exec'd so that nothing of the supervisor's heap, which holds the platform tokens, gets below it. Its environment
is the one its workers start from: a clean list, no token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hermesd.ipc import codec, framing, keeping
from hermesd.ipc.errors import PeerError
from hermesd.ipc.messages import Message
from hermesd.supervisor.errors import StartFailed
from hermesd.workers.spec import KeeperSpec, WorkerSpec

from .contract import LauncherListener

log = logging.getLogger("hermesd.pool.keeper")

READY_SECONDS = 60.0
"""A keeper that has not imported what workers need by then never will; a slow disk has been seen to take ten."""


class KeeperLauncher:
    """Implements `hermesd.supervisor.pool.launchers.contract.Launcher` with one keeper process."""

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
        start_by: str = "fork",
        python: str = sys.executable,
    ):
        self._listener = listener
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
            start_by=start_by,
        )
        self._codec = codec.Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)
        self._deframer = framing.Deframer()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unsent: list[tuple[bytes, int | None]] = []
        self._ready: asyncio.Future[keeping.KeeperReady] | None = None
        self._dead: asyncio.Future[None] | None = None
        self._stopping = False
        self.containment = ""
        self.refused: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.forks = True
        self.started_at = 0.0
        self.state = "starting"
        self.pid = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._dead = loop.create_future()
        self._spawn(loop)
        try:
            await asyncio.wait_for(self._connect_and_claim(loop), READY_SECONDS)
        except TimeoutError:
            await self.stop(0.0)
            raise StartFailed(f"the keeper was not ready within {READY_SECONDS:g} s; see {self._log_file}") from None

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        told_read, told_write = os.pipe()
        with open(self._log_file, "ab") as log_stream:
            self._process = subprocess.Popen(
                [self._python, "-m", "hermesd.workers.keeper"],
                stdin=told_read,
                stdout=log_stream,
                stderr=log_stream,
                env={**self._environment, "HERMESD_TAG": f"{self._spec.instance}-{secrets.token_hex(16)}"},
                start_new_session=True,
                # Every descriptor of ours is close-on-exec. Closing them by number would need /proc/self/fd, which an
                # undumpable process of an ordinary user cannot read, and then means a million close calls.
                close_fds=False,
            )
        os.close(told_read)
        self.pid = self._process.pid
        self.started_at = time.time()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, self._died, loop, pidfd)
        # A keeper that dies before it was told anything breaks the pipe; its death is told by the pidfd.
        with contextlib.suppress(BrokenPipeError), os.fdopen(told_write, "wb") as told:
            told.write(codec.pack_value(self._spec))

    def _died(self, loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        assert self._process is not None
        assert self._dead is not None
        assert self._ready is not None
        status = self._process.wait()
        self._drop_socket(loop)
        self._dead.set_result(None)
        self.state = "gone"
        reason = f"the keeper ended with status {status}; see {self._log_file}"
        if not self._ready.done():
            self._ready.set_exception(StartFailed(reason))
        elif not self._stopping:
            self._listener.launcher_died(reason)

    async def _connect_and_claim(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._ready is not None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        while not self._ready.done():
            try:
                await loop.sock_connect(sock, str(self._path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                # The keeper listens within some 50 ms of its start, before its long imports; there is no event for it.
                await asyncio.sleep(0.005)
        else:
            sock.close()
            self._ready.result()
        self._socket = sock
        loop.add_reader(sock, self._readable, loop)
        self._send(keeping.Claim(self._spec.secret))
        ready = await self._ready
        self.containment, self.refused, self.warnings = ready.containment, ready.refused, ready.warnings
        self.forks = ready.forks
        self.state = "running"

    # ---- requests ----------------------------------------------------------------------------------------------------

    def launch(self, spec: WorkerSpec) -> None:
        if self._socket is None:
            # Not at once: the caller has not noted yet whose worker it is.
            failure = keeping.ForkFailed(spec.worker, "the keeper is gone")
            asyncio.get_running_loop().call_soon(self._listener.fork_failed, failure)
            return
        # A memory file, not a pipe: a long list of servers would fill a pipe and block the event loop.
        told = os.memfd_create(f"spec-{spec.worker}", os.MFD_CLOEXEC)
        os.write(told, codec.pack_value(spec))
        os.lseek(told, 0, os.SEEK_SET)
        self._send(keeping.Fork(spec.worker, spec.tag), told)

    def kill(self, worker: str, *, dump: bool = False) -> None:
        self._send(keeping.Kill(worker, dump))

    async def stop(self, timeout: float) -> None:
        if self._process is None or self._dead is None:
            return
        self._stopping = True
        self._send(keeping.Leave())
        try:
            await asyncio.wait_for(asyncio.shield(self._dead), max(timeout, 0.1))
        except TimeoutError:
            log.error("the keeper did not leave within %.1f s: killing it", timeout)
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._dead
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    # ---- the socket --------------------------------------------------------------------------------------------------

    def _send(self, message: Message, descriptor: int | None = None) -> None:
        if self._socket is None:
            if descriptor is not None:
                os.close(descriptor)
            return
        self._unsent.append((framing.frame(self._codec.encode(message)), descriptor))
        self._flush(asyncio.get_running_loop())

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._socket is not None and self._unsent:
            data, descriptor = self._unsent[0]
            try:
                sent = (
                    socket.send_fds(self._socket, [data], [descriptor])
                    if descriptor is not None
                    else self._socket.send(data)
                )
            except BlockingIOError:
                loop.add_writer(self._socket, self._flush, loop)
                return
            except OSError as error:
                log.warning("lost the keeper: %s", error)
                return self._drop_socket(loop)
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(data):
                self._unsent[0] = (data[sent:], None)
            else:
                self._unsent.pop(0)
        if self._socket is not None:
            loop.remove_writer(self._socket)

    def _drop_socket(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket is None:
            return
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        for _, descriptor in self._unsent:
            if descriptor is not None:
                os.close(descriptor)
        self._unsent.clear()

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("lost the keeper: %s", error)
            return self._drop_socket(loop)
        if not data:
            return self._drop_socket(loop)
        try:
            messages = [self._codec.decode(frame).message for frame in self._deframer.feed(data)]
        except PeerError as error:
            log.error("the keeper's answer makes no sense: %s", error)
            return self._drop_socket(loop)
        for message in messages:
            self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case keeping.KeeperReady():
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(message)
            case keeping.Forked():
                self._listener.forked(message)
            case keeping.ForkFailed():
                self._listener.fork_failed(message)
            case keeping.Gone():
                self._listener.gone(message)
            case _:
                log.warning("ignored a %s of the keeper", message.KIND)
