"""Start a foreign program inside a container, through the exec shim, and keep hold of it by pidfd.

Called by a worker for its MCP servers and by a launcher for workers. Only from the main thread: the kernel sends a
parent-death signal when the *thread* that forked ends, so a program started from a pool thread dies with that thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno as errors
import marshal
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hermesd.workers import shim
from hermesd.workers.containment import Entry
from hermesd.workers.containment.identity import Identity, identify, send
from hermesd.workers.containment.tag import VARIABLE

_SHIM = str(Path(__file__).with_name("shim.py"))
_REPORT_LIMIT = 8192
START_TIMEOUT = 10.0  # seconds from the fork to the exec; a shim needs about 0.01

Limit = int | tuple[int, int]  # soft and hard, or one number for both


class SpawnError(Exception):
    """A program could not be started and nothing of it runs. ``stage`` is the shim's step, ``errno`` the kernel's."""

    def __init__(self, reason: str, *, stage: str, errno: int = 0):
        super().__init__(reason)
        self.stage = stage
        self.errno = errno


class Spawned:
    """A running child. Own it from start to reaping, then `close` it.

    Attributes: pid, start_ticks; pidfd (readable in a poll once it is dead); stdin_fd and stdout_fd, the parent's ends
    of its pipes, -1 once given away with `take_pipes`; exit_code as subprocess has it (-9 for SIGKILL) once reaped.
    """

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int, identity: Identity, stdin_fd: int, stdout_fd: int):
        self._process = process
        self.pid = process.pid
        self.pidfd = pidfd
        self.start_ticks = identity.start_ticks
        self.stdin_fd = stdin_fd
        self.stdout_fd = stdout_fd
        self.exit_code: int | None = None

    def take_pipes(self) -> tuple[int, int]:
        """Hand (stdin_fd, stdout_fd) over to the caller, who closes them from now on."""
        pipes = self.stdin_fd, self.stdout_fd
        self.stdin_fd = self.stdout_fd = -1
        return pipes

    def send_signal(self, number: int) -> bool:
        """False if it is dead. Of the program itself only: its descendants are its container's business."""
        return self.exit_code is None and send(self.pidfd, number)

    def reap(self) -> int | None:
        """The exit code if it is dead, without waiting; None if it runs."""
        if self.exit_code is None:
            try:
                status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                # Somebody else in this process waited for any child; that it is dead is all that is known.
                status, self.exit_code = None, 255
            if status is not None:
                killed = status.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
                self.exit_code = -status.si_status if killed else status.si_status
            # Popen would else wait for this pid at the next Popen, when it may be the pid of another child.
            self._process.returncode = self.exit_code
        return self.exit_code

    def wait(self, seconds: float) -> int | None:
        """Block until it is dead, at most ``seconds``; then as `reap`."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        poller.poll(max(0, int(seconds * 1000)))
        return self.reap()

    async def wait_async(self) -> int:
        """The exit code, as soon as it is dead."""
        # A loop watches a descriptor for one waiter only, and several may wait for the same death.
        own = os.dup(self.pidfd) if self.exit_code is None else -1
        try:
            while (code := self.reap()) is None:
                await _readable(own)
            return code
        finally:
            if own >= 0:
                os.close(own)

    def close(self) -> None:
        """Close every descriptor. A program that was not reaped is left to its container."""
        for descriptor in (self.pidfd, *self.take_pipes()):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = -1


class _Start:
    """A shim that has not reported yet."""

    def __init__(self, spawned: Spawned, report_fd: int, argv: Sequence[str], path: str, directory: str):
        self.spawned = spawned
        self.report_fd = report_fd
        self._argv = argv
        self._path = path
        self._directory = directory
        self._report = b""

    def read(self) -> bool:
        """Take what the shim has written; True at the end of the pipe. Only when readable."""
        piece = os.read(self.report_fd, _REPORT_LIMIT)
        self._report += piece
        return not piece

    def result(self) -> Spawned:
        """After the end of the pipe: the running program, or `SpawnError`."""
        os.close(self.report_fd)
        self.report_fd = -1
        if self._report == shim.READY:
            return self.spawned
        code = self.spawned.wait(1.0)
        self.spawned.close()
        if not self._report:
            raise SpawnError(f"cannot start {self._argv[0]!r}: its shim ended with {code}", stage="shim")
        stage, number, text = self._report.removeprefix(shim.READY).decode("utf-8", "replace").split("\0", 2)
        reason = explain(stage, int(number), text, self._argv, self._path, self._directory)
        raise SpawnError(f"cannot start {self._argv[0]!r}: {reason}", stage=stage, errno=int(number))

    def abort(self) -> None:
        """Kill the half-born child and reap it: it dies within a millisecond."""
        self.spawned.send_signal(signal.SIGKILL)
        self.spawned.wait(1.0)
        self.spawned.close()
        if self.report_fd >= 0:
            os.close(self.report_fd)
            self.report_fd = -1


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str = "",
    entry: Entry | None = None,
    rlimits: Mapping[str, Limit] | None = None,
    stderr: int = subprocess.DEVNULL,
    timeout: float = START_TIMEOUT,
) -> Spawned:
    """Run ``argv`` with exactly ``env`` (and the container's tag); returns when it has been exec'd, after about 15 ms.

    ``rlimits``: names of `resource` without RLIMIT_, in lower case. ``stderr``: a descriptor, or DEVNULL. Its PATH is
    that of ``env``. Raises `SpawnError`; then nothing of it is left.
    """
    start = _start(argv, env=env, cwd=cwd, entry=entry or Entry(), rlimits=rlimits or {}, stderr=stderr)
    deadline = time.monotonic() + timeout
    poller = select.poll()
    poller.register(start.report_fd, select.POLLIN)
    try:
        done = False
        while not done:
            if not poller.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                raise _too_late(argv, timeout)
            done = start.read()
    except BaseException:
        start.abort()
        raise
    return start.result()


async def spawn_async(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str = "",
    entry: Entry | None = None,
    rlimits: Mapping[str, Limit] | None = None,
    stderr: int = subprocess.DEVNULL,
    timeout: float = START_TIMEOUT,
) -> Spawned:
    """As `spawn`, from a coroutine in the main thread; blocks its loop only for the fork (about 1 ms).

    Cancelled, it kills the half-born child before it ends.
    """
    start = _start(argv, env=env, cwd=cwd, entry=entry or Entry(), rlimits=rlimits or {}, stderr=stderr)
    try:
        async with asyncio.timeout(timeout):
            await _readable(start.report_fd)
            while not start.read():
                await _readable(start.report_fd)
    except TimeoutError as late:
        start.abort()
        raise _too_late(argv, timeout) from late
    except BaseException:
        start.abort()
        raise
    return start.result()


def explain(stage: str, number: int, text: str, argv: Sequence[str], path: str, directory: str) -> str:
    """Why a step of the shim failed, for a person who wrote the command into a configuration."""
    if stage == "chdir":
        return f"cannot enter its directory {directory}: {text}"
    if stage == "cgroup" and number == errors.ENOENT:
        return "its container was removed in the meantime"
    if stage != "exec":
        return f"{stage}: {text}"
    command = argv[0]
    file = command if "/" in command else shutil.which(command, path=path)
    # With an unreadable directory on the PATH the kernel's last word on a missing command is EACCES.
    if number in (errors.ENOENT, errors.EACCES) and "/" not in command and file is None:
        return f"command not found on PATH={path}"
    if number == errors.ENOENT and file is not None and os.path.exists(os.path.join(directory, file)):
        return f"{file} is there, but the interpreter in its first line is not"
    if number == errors.ENOEXEC:
        return f"{file} is no program: it is not binary and has no #! line"
    return text


def _too_late(argv: Sequence[str], timeout: float) -> SpawnError:
    return SpawnError(
        f"cannot start {argv[0]!r}: no exec within {timeout:g} s", stage="timeout", errno=errors.ETIMEDOUT
    )


def _start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    entry: Entry,
    rlimits: Mapping[str, Limit],
    stderr: int,
) -> _Start:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("cannot spawn from this thread: the parent-death signal follows the thread that forks")
    if not argv:
        raise SpawnError("cannot start a program: the command is empty", stage="spec", errno=errors.EINVAL)
    for name in rlimits:
        if not hasattr(resource, "RLIMIT_" + name.upper()):
            reason = f"cannot start {argv[0]!r}: this system has no limit {name!r}"
            raise SpawnError(reason, stage="rlimits", errno=errors.EINVAL)
    environment = dict(env)
    if entry.tag:
        environment[VARIABLE] = entry.tag
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as childs:
        spec_fd = _write_spec(_spec(argv, environment, cwd, entry, rlimits), childs)
        stdin_fd, stdout_fd, report_fd = (
            _pipe(ours, childs, child_writes=child_writes) for child_writes in (False, True, True)
        )
        process = _fork(entry, stdin_fd[1], stdout_fd[1], stderr, (spec_fd, report_fd[1]), argv)
        try:
            # Not reaped yet, so the pid cannot mean another process.
            pidfd = os.pidfd_open(process.pid)
        except OSError as problem:
            process.kill()
            process.wait()
            reason = f"cannot start {argv[0]!r}: no pidfd for it: {problem.strerror}"
            raise SpawnError(reason, stage="fork", errno=problem.errno or 0) from problem
        identity = identify(process.pid) or Identity(process.pid, 0)
        ours.pop_all()
    spawned = Spawned(process, pidfd, identity, stdin_fd[0], stdout_fd[0])
    return _Start(spawned, report_fd[0], argv, environment.get("PATH", os.defpath), cwd)


def _fork(
    entry: Entry, stdin: int, stdout: int, stderr: int, inherited: tuple[int, int], argv: Sequence[str]
) -> subprocess.Popen[bytes]:
    # The shim carries the tag from its first instant: a sweep finds it even before it joined its container.
    environment = {VARIABLE: entry.tag} if entry.tag else {}
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):  # the interpreter may need them
        if name in os.environ:
            environment[name] = os.environ[name]
    command = [sys.executable, "-I", "-S", _SHIM, *map(str, inherited)]
    try:
        return subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=inherited, close_fds=True
        )
    except OSError as problem:
        reason = f"cannot start {argv[0]!r}: cannot run {sys.executable}: {problem.strerror}"
        raise SpawnError(reason, stage="fork", errno=problem.errno or 0) from problem


def _spec(
    argv: Sequence[str], environment: dict[str, str], cwd: str, entry: Entry, rlimits: Mapping[str, Limit]
) -> bytes:
    return marshal.dumps(
        {
            shim.ARGV: list(argv),
            shim.ENVIRONMENT: environment,
            shim.DIRECTORY: cwd,
            shim.PARENT: os.getpid(),
            shim.CGROUP: entry.cgroup,
            shim.NEW_SESSION: entry.new_session,
            shim.SUBREAPER: entry.subreaper,
            shim.DEATH_SIGNAL: int(entry.parent_death_signal),
            shim.RLIMITS: {name: _pair(limit) for name, limit in rlimits.items()},
        }
    )


def _pair(limit: Limit) -> tuple[int, int]:
    return limit if isinstance(limit, tuple) else (limit, limit)


def _write_spec(data: bytes, stack: contextlib.ExitStack) -> int:
    """An unnamed file, and where it can be one in memory: the environment in it may hold secrets."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("hermesd-spec", os.MFD_CLOEXEC)
    else:
        descriptor, path = tempfile.mkstemp(prefix="hermesd-spec-")
        os.unlink(path)
    stack.callback(os.close, descriptor)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _pipe(ours: contextlib.ExitStack, childs: contextlib.ExitStack, *, child_writes: bool) -> tuple[int, int]:
    """(our end, the child's end), both close-on-exec; the child's is closed here in any case after the fork."""
    reader, writer = os.pipe()
    mine, its = (reader, writer) if child_writes else (writer, reader)
    ours.callback(os.close, mine)
    childs.callback(os.close, its)
    return mine, its


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, set_ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
