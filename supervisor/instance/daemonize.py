"""``hermesd --daemon``: the same program is started again, in the foreground form, in a session of its own.

It is started by exec and never by forking a running hermesd: threads, locks and sockets would not survive that. The new
process tells over a pipe when it is ready or why it is not, so that ``--daemon`` can return an honest status.
"""

from __future__ import annotations

import json
import os
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import BinaryIO

from .errors import DaemonNotStarted, HomeUnusable

VARIABLE = "HERMESD_READY_FD"
_LAST_WORDS = 5.0  # seconds from a failure told over the pipe to the exit
_TAIL = 2000  # bytes of the start log that are shown


def same_program(drop: str = "--daemon") -> list[str]:
    """The command line of this very process, without the option that must not be repeated."""
    return [sys.executable, *(word for word in sys.orig_argv[1:] if word != drop)]


def start(
    command: Sequence[str],
    log: Path,
    timeout: float,
    environ: Mapping[str, str],
    tell: Callable[[str], object] = lambda text: None,
) -> int:
    """Start ``command`` in the background and return its pid once it is ready.

    ``log`` gets its stdout and stderr; ``timeout`` is in seconds; ``tell`` is called with each thing that is not as it
    should be although it is ready. Raises `DaemonNotStarted` with the text and the exit
    status of a program that failed, or that was ended because it did not get ready in time.
    """
    reader, writer = os.pipe()
    try:
        with _open_log(log) as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environ, VARIABLE: str(writer)},
                pass_fds=(writer,),
                start_new_session=True,
            )
    except HomeUnusable:
        os.close(reader)
        raise
    except OSError as error:
        os.close(reader)
        raise DaemonNotStarted(f"cannot start {command[0]}: {error.strerror}") from error
    finally:
        os.close(writer)
    try:
        return _await(child, reader, log, timeout, tell)
    except BaseException:
        _end(child)
        raise
    finally:
        os.close(reader)


def _await(
    child: subprocess.Popen[bytes], reader: int, log: Path, timeout: float, tell: Callable[[str], object]
) -> int:
    said = _read_line(reader, time.monotonic() + timeout)
    if said is None:
        _end(child)
        raise DaemonNotStarted(f"hermesd was not ready within {timeout:g} s and was ended{_tail(log)}")
    message = _message(said)
    pid = message.get("ready")
    if isinstance(pid, int):
        # It is meant to outlive us; Popen would warn of a child that was never waited for.
        child.returncode = 0
        notes = message.get("notes")
        for note in notes if isinstance(notes, list) else ():
            tell(str(note))
        return pid
    try:
        status = child.wait(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        _end(child)
        status = 1
    text = message.get("failed")
    if not isinstance(text, str):
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        text = f"hermesd ended before it was ready ({how}){_tail(log)}"
    raise DaemonNotStarted(text, status if status > 0 else 1)


def _read_line(reader: int, deadline: float) -> bytes | None:
    """Everything up to the line's end or the end of file; None when time runs out."""
    said = b""
    while not said.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        part = os.read(reader, 65536)
        if not part:
            break
        said += part
    return said


def _message(said: bytes) -> dict[str, object]:
    try:
        value = json.loads(said)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _open_log(log: Path) -> BinaryIO:
    try:
        # O_APPEND: a running hermesd cuts the file back when it grows beyond its cap.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(log, flags, 0o600), "wb", buffering=0)
    except OSError as error:
        raise HomeUnusable(f"cannot write the log {log}: {error.strerror}") from error


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL))
            text = stream.read().decode("utf-8", "replace").strip()
    except OSError as error:
        return f"; its output in {log} cannot be read: {error.strerror}"
    return f"\n{text}" if text else ""


class Readiness:
    """The other end: how a hermesd that was started by ``--daemon`` says how its start went. Says it once."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        # What hermesd itself starts must not hold the pipe open.
        os.set_inheritable(descriptor, False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Readiness | None:
        """Takes the descriptor out of the environment; None for a hermesd that nobody waits for."""
        text = environ.pop(VARIABLE, "")
        try:
            descriptor = int(text)
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        except (ValueError, OSError):
            return None
        return cls(descriptor) if is_pipe else None

    def ready(self, pid: int, notes: Sequence[str] = ()) -> None:
        """It works; ``hermesd --daemon`` prints the ``notes`` to stderr, the pid to stdout, and returns 0."""
        self._say({"ready": pid, "notes": list(notes)})

    def failed(self, text: str) -> None:
        """The start failed for this reason. The process must end with its exit status soon after."""
        self._say({"failed": text})

    def _say(self, message: Mapping[str, object]) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.write(descriptor, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return  # who waited has given up and gone
        finally:
            os.close(descriptor)
