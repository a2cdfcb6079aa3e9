"""The process of an MCP server: its pipes as asyncio streams, its death as a future.

Started through the exec shim and only from the main thread; emptying its container is not this file's business.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Sequence

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.containment.contract import Container
from hermesd.workers.spawn import Spawned, SpawnError, spawn_async

log = logging.getLogger(__name__)

PIDFD_SIGNAL_PROCESS_GROUP = 4  # linux/pidfd.h, since Linux 6.9
READ_AHEAD = 1 << 20  # bytes of output held before the pipe is left alone
SHELL_NOT_FOUND = 127  # what sh, env and npx end with when the command they were given does not exist
SHELL_CANNOT_RUN = 126  # the same for one that is no program


class CannotSpawn(Exception):
    """There is no process; the text says why, for the person who wrote the command into the configuration.

    ``permanent``: it will be so until somebody mends the command, its directory or the program.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class Process:
    """A running server. `exited` is done with a sentence on how it ended, once it has; `close` gives all back."""

    def __init__(
        self,
        spawned: Spawned,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        readers: Sequence[asyncio.ReadTransport],
    ) -> None:
        self.pid = spawned.pid
        self.start_ticks = spawned.start_ticks
        self.pidfd = spawned.pidfd
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._spawned = spawned
        self._readers = readers
        self.exited: asyncio.Task[str] = asyncio.create_task(self._exit(), name=f"pid {spawned.pid} exits")

    @property
    def exit_code(self) -> int | None:
        """As subprocess has it; None while it runs."""
        return self._spawned.exit_code

    async def _exit(self) -> str:
        return describe_exit(await self._spawned.wait_async())

    def close_stdin(self) -> None:
        """The end of its input. What it has not read of it is thrown away, or the pipe would wait for it for ever."""
        transport = self.stdin.transport
        if transport.get_write_buffer_size():
            self._abort_stdin()
        else:
            transport.close()

    def _abort_stdin(self) -> None:
        # asyncio's pipe transport (3.11 to 3.13) raises AttributeError for an abort after it has lost its pipe.
        if not self.stdin.transport.is_closing():
            self.stdin.transport.abort()

    def terminate(self) -> None:
        """SIGTERM and SIGCONT to its process group: ``npx`` does not pass a signal on to the server below it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            if self._spawned.exit_code is not None:
                return
            try:
                signal.pidfd_send_signal(self.pidfd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
            except ProcessLookupError:
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Before Linux 6.9. The leader is not reaped, so its number, which is its group's, means nobody else.
                os.killpg(self.pid, number)

    def close(self) -> None:
        """Close every descriptor. The process is dead by now, or its container takes it."""
        self._abort_stdin()
        for reader in self._readers:
            reader.close()
        self.exited.cancel()
        self._spawned.close()


async def spawn(spec: ServerSpec, environment: dict[str, str], container: Container) -> Process:
    """Start the server inside its container, which exists. Raises `CannotSpawn`; then nothing of it is left."""
    stderr_read, stderr_write = os.pipe()
    try:
        spawned = await spawn_async(
            [spec.command, *spec.args], env=environment, cwd=spec.cwd, entry=container.entry(), stderr=stderr_write
        )
    except (SpawnError, OSError, ValueError) as error:
        os.close(stderr_read)
        needs_mending = isinstance(error, SpawnError) and error.stage in ("exec", "chdir", "spec")
        raise CannotSpawn(str(error), permanent=needs_mending) from error
    except BaseException:
        os.close(stderr_read)
        raise
    finally:
        os.close(stderr_write)
    container.started(spawned.pid)
    stdin_fd, stdout_fd = spawned.take_pipes()
    stdin = await _writer(stdin_fd)
    stdout, reading_stdout = await _reader(stdout_fd)
    stderr, reading_stderr = await _reader(stderr_read)
    return Process(spawned, stdin, stdout, stderr, (reading_stdout, reading_stderr))


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=READ_AHEAD)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return reader, transport


def describe_exit(code: int) -> str:
    """An exit code, as subprocess has it, in words.

    >>> describe_exit(-9)
    'it was killed by SIGKILL'
    """
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"it was killed by {name}"
    if code == SHELL_NOT_FOUND:
        return "it exited with status 127, command not found"
    return f"it exited with status {code}"
