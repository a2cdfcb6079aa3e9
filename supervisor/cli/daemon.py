"""The hermesd that a command means: asks it over its control socket, and finds out what is wrong when it is silent.

Whether it runs is decided by its lock alone; PID file and /proc only say more about it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hermesd.supervisor.control import client
from hermesd.supervisor.control.errors import (
    Code,
    Hangup,
    NobodyThere,
    NotAllowed,
    Refused,
    Unreachable,
)
from hermesd.supervisor.instance.errors import HomeUnusable
from hermesd.supervisor.instance.lock import Standing, describe
from hermesd.supervisor.instance.paths import paths_of, resolve_home

from .exits import CommandError, Exit
from .options import Options

_STATUS_OF_CODE: Mapping[str, Exit] = {
    Code.USAGE: Exit.USAGE,
    Code.DENIED: Exit.NOT_ALLOWED,
    Code.BUSY: Exit.TRY_AGAIN,
    Code.TIMED_OUT: Exit.TIMED_OUT,
    Code.CONFIG: Exit.CONFIG,
}

_LETTERS = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a disk or the kernel",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "Z": "a zombie",
    "X": "dead",
}


LETS_GO = 0.5
"""Seconds from the end of a connection to the end of its process, where that is the reason."""

PATIENCE = 5.0
"""Seconds beyond the client's budget for the first answer of a process that may still give one: it waits for the
processor or the disk, or for whoever had them. ``status``, which is to find out, takes a sleeping one for silent.
"""

_WAITING = ("R", "D")
_ABLE = (*_WAITING, "S")
_HALTED = ("T", "t", "D")
_ENDED = ("Z", "X")


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a hermesd that does not answer."""

    state: str  # "stopped", "dead", "unresponsive", "starting", "unknown"
    status: Exit  # of ``hermesctl status``
    detail: str
    fix: str = ""
    pid: int | None = None
    version: str | None = None
    process_state: str | None = None


class Daemon:
    """The instance of one home."""

    def __init__(self, options: Options, patience: float = client.BUDGET) -> None:
        """``patience``: seconds for the first answer, for verbs that have more to do than to look."""
        self.home = home_of(options)
        self.paths = paths_of(self.home, os.environ)
        self._budget = patience
        self._timeout = options.timeout

    @property
    def log_file(self) -> Path:
        return self.paths.logs / "hermesd.log"

    def describe(self) -> Standing:
        """What lock, PID file and /proc say. Raises `CommandError` where that cannot be found out."""
        try:
            return describe(self.paths)
        except HomeUnusable as error:
            raise CommandError(Exit.NOT_ALLOWED, "denied", str(error)) from error

    def status(self) -> dict[str, Any] | Sight:
        """The document of ``status``, or why there is none."""
        try:
            with self.connect(self._timeout, _WAITING) as connection:
                return connection.call("status")
        except Refused as refused:
            raise self._refused(refused) from refused
        except Unreachable as error:
            return self.sight(error)

    def ask(self, verb: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One answer. Raises `CommandError` with the status of an action."""
        return self.ask_all((verb, params))[0]

    def ask_all(self, *questions: tuple[str, Mapping[str, Any] | None]) -> list[dict[str, Any]]:
        """The answers to several questions, over one connection and within one budget."""
        try:
            with self.connect(self._timeout) as connection:
                return [connection.call(verb, params) for verb, params in questions]
        except (Refused, Unreachable) as error:
            self.give_up(error)

    @contextmanager
    def stream(self, verb: str, params: Mapping[str, Any] | None = None) -> Iterator[client.Stream]:
        """A streaming answer, which ``--timeout`` is a limit of: not of the time until it begins. Errors of the
        connection inside the block are raised as `CommandError`.
        """
        try:
            with self.connect() as connection:
                yield connection.stream(verb, params)
        except (Refused, Unreachable) as error:
            self.give_up(error)

    def connect(self, timeout: float | None = None, patient_with: Container[str] = _ABLE) -> client.Client:
        """A connection for who wants to see its errors himself: raises `Unreachable`. ``timeout``: seconds for the
        first answer where a person has said how long he waits; without one, a process in one of these states has
        `PATIENCE`.
        """
        looks = 0 if timeout is not None else round(PATIENCE / client.LOOK_EVERY)

        def may_come() -> bool:
            nonlocal looks
            looks -= 1
            pid = self.describe().pid if looks >= 0 else 0
            return bool(pid) and process_state(pid) in patient_with

        budget = self._budget if timeout is None else min(self._budget, timeout)
        try:
            return client.Client(self.paths.control_socket, budget, may_come=may_come)
        except NobodyThere:
            # Where the runtime directory has another name than in hermesd's environment, the PID file knows better.
            record = self.describe().record
            if record is None or record.control_socket in ("", str(self.paths.control_socket)):
                raise
            return client.Client(Path(record.control_socket), budget, may_come=may_come)

    def give_up(self, error: Refused | Unreachable) -> NoReturn:
        """Raises the `CommandError` that an action ends with."""
        if isinstance(error, Refused):
            raise self._refused(error) from error
        sight = self.sight(error)
        status, code = {
            "stopped": (Exit.NOT_RUNNING, "not_running"),
            "dead": (Exit.NOT_RUNNING, "not_running"),
            "starting": (Exit.TRY_AGAIN, "busy"),
            "unresponsive": (Exit.TIMED_OUT, "no_answer"),
        }.get(sight.state, (Exit.FAILED, "unreachable"))
        if isinstance(error, NotAllowed):
            status, code = Exit.NOT_ALLOWED, Code.DENIED
        prefix = "" if status is Exit.NOT_ALLOWED else f"hermesd is {sight.state}: "
        raise CommandError(status, code, prefix + sight.detail, sight.fix) from error

    def sight(self, error: Unreachable) -> Sight:
        """What is the matter with a hermesd that did not answer."""
        if isinstance(error, NotAllowed):
            return Sight("unknown", Exit.NO_ANSWER, f"{error}: it belongs to another user", "run it as that user")
        found = self.describe()
        if isinstance(error, Hangup):
            # A process that dies lets go of its sockets and of its lock one after the other.
            until = time.monotonic() + LETS_GO
            while found.state == "running" and time.monotonic() < until:
                time.sleep(0.01)
                found = self.describe()
        pid, version = found.pid or None, found.record.version if found.record else None
        if found.state == "none":
            return Sight("stopped", Exit.STOPPED, "no process holds the lock of this home", "hermesd --daemon")
        if found.state == "stale":
            named = f"names process {pid}" if pid else "is left"
            detail = f"its PID file {named}, but no process holds the lock of this home"
            return Sight("dead", Exit.DEAD, detail, "hermesd --daemon, which clears it away", pid, version)
        letter = process_state(pid) if pid else None
        if letter in _ENDED:
            detail = f"process {pid} has ended (state {letter}, {_LETTERS[letter]}), and its parent has not noticed yet"
            return Sight("dead", Exit.DEAD, detail, "hermesd --daemon, which clears it away", pid, version, letter)
        process = f"process {pid}" if pid else "a process that has not said its pid yet"
        if letter:
            process += f" (state {letter}, {_LETTERS.get(letter, 'unknown')})"
        if isinstance(error, NobodyThere) and letter not in _HALTED:
            detail = f"{process} holds the lock and does not listen on its control socket: it starts or ends just now"
            return Sight("starting", Exit.NO_ANSWER, detail, "try again", pid, version, letter)
        detail = f"supervisor alive but not answering: {process}; {error}"
        fix = f"kill -CONT {pid}" if letter == "T" else f"hermesctl logs, and kill -ABRT {pid} if it has to end"
        return Sight("unresponsive", Exit.NO_ANSWER, detail, fix, pid, version, letter)

    def _refused(self, refused: Refused) -> CommandError:
        status = _STATUS_OF_CODE.get(refused.code, Exit.FAILED)
        return CommandError(status, refused.code, refused.message, refused.next_step)


def home_of(options: Options) -> Path:
    """The home that is meant. Raises `CommandError` where it cannot be followed."""
    try:
        return resolve_home(options.home, os.environ)
    except HomeUnusable as error:
        raise CommandError(Exit.NOT_ALLOWED, "denied", str(error), "name another with --home") from error


def process_state(pid: int) -> str | None:
    """The letter of /proc/PID/stat; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in brackets, which may itself hold blanks and brackets.
    return text.rpartition(b")")[2].split()[0].decode("ascii")
