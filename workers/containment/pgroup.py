"""Containment by session and process group, for POSIX systems that are not Linux.

What is found: the group of every root, everything that descended from one when it was looked at, and what carries the
tag. What escapes: a process that left its session, lost its parent *and* cleared its environment before it was ever
seen. There is no pidfd, so processes are signalled by number right after their start times were compared again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from . import naming
from .contract import Container, Entry, Leftover, Usage
from .errors import ContainmentError, Unsupported
from .identity import is_dead, send
from .tag import LENGTH, VARIABLE, check_instance, server_tag, worker_prefix

_PS_SECONDS = 5.0
_COLUMNS = "pid=,ppid=,pgid=,stat=,rss=,time=,lstart="
# How ps shows the environment behind the command line: only for processes of the same user.
_WITH_ENVIRONMENT = ["ps", "-A", "-E", "-ww"] if sys.platform == "darwin" else ["ps", "axeww"]


class Row(NamedTuple):
    """A line of ps. ``started``: local time to the second, as ps writes it."""

    pid: int
    parent: int
    group: int
    state: str
    resident: int  # bytes
    cpu_seconds: float
    started: str
    tag: str = ""
    command: str = ""


def parse_seconds(text: str) -> float:
    """``[[days-]hours:]minutes:seconds[.hundredths]`` as ps writes CPU time."""
    days, _, rest = text.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + int(days or 0) * 86400


def parse_table(text: str, environments: str = "") -> dict[int, Row]:
    """Rows by pid, from the output of the two calls of ps."""
    tails = {}
    for line in environments.splitlines():
        number, _, tail = line.strip().partition(" ")
        tails[int(number)] = tail
    rows = {}
    for line in text.splitlines():
        words = line.split()
        pid = int(words[0])
        command, _, value = tails.get(pid, "").partition(f" {VARIABLE}=")
        rows[pid] = Row(
            pid=pid,
            parent=int(words[1]),
            group=int(words[2]),
            state=words[3],
            resident=int(words[4]) * 1024,
            cpu_seconds=parse_seconds(words[5]),
            started=" ".join(words[6:]),
            tag=value[:LENGTH],
            command=command.strip()[:200],
        )
    return rows


def process_table() -> dict[int, Row]:
    """Raises `ContainmentError` if ps does not answer."""
    try:
        rows, environments = (
            subprocess.run(
                command, env=_environment(), capture_output=True, check=True, timeout=_PS_SECONDS
            ).stdout.decode("utf-8", "replace")
            for command in (["ps", "-A", "-o", _COLUMNS], [*_WITH_ENVIRONMENT, "-o", "pid=,command="])
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise ContainmentError(f"cannot list processes: {problem}") from problem
    return parse_table(rows, environments)


def members_of(
    table: Mapping[int, Row],
    mark: str,
    known: Mapping[int, str],
    groups: Iterable[int] = (),
    spared: Iterable[int] = (),
) -> dict[int, Row]:
    """Who belongs: tagged with ``mark``, known (pid to start), in one of the groups, and all that is below."""
    groups, spared = frozenset(groups), frozenset(spared)
    children: dict[int, list[Row]] = {}
    for row in table.values():
        children.setdefault(row.parent, []).append(row)
    found: dict[int, Row] = {}
    queue = [
        row
        for row in table.values()
        if known.get(row.pid) == row.started or row.group in groups or (mark and row.tag.startswith(mark))
    ]
    for row in queue:
        if row.pid not in found and row.pid not in spared:
            found[row.pid] = row
            queue.extend(children.get(row.pid, ()))
    return found


def signal_rows(rows: Iterable[Row], number: int) -> None:
    """Signal those whose number still means the same process as in the table."""
    rows = list(rows)
    now = _starts(row.pid for row in rows)
    for row in rows:
        if now.get(row.pid) == row.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(row.pid, number)


def _starts(pids: Iterable[int]) -> dict[int, str]:
    numbers = ",".join(map(str, pids))
    if not numbers:
        return {}
    # ps exits with 1 if some of them are gone.
    command = ["ps", "-o", "pid=,lstart=", "-p", numbers]
    answer = subprocess.run(command, env=_environment(), capture_output=True, timeout=_PS_SECONDS)
    lines = (line.split() for line in answer.stdout.decode("ascii", "replace").splitlines())
    return {int(words[0]): " ".join(words[1:]) for words in lines}


def _environment() -> dict[str, str]:
    """Numbers and dates in one shape, whatever the user's locale."""
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}


class GroupContainer:
    """One worker or one server, as far as its members can be told from other processes."""

    place = ""

    def __init__(self, name: str, tag: str, *, is_worker: bool):
        self.name = name
        self.tag = tag
        self._mark = worker_prefix(tag) if is_worker else tag
        self._known: dict[int, str] = {}
        self._groups: dict[int, str] = {}  # by number, with the start of the root that leads or led it
        self._stopped: set[tuple[int, str]] = set()
        self._cpu_seconds = 0.0
        self._empty_rounds = 0

    def create(self) -> None:
        """Nothing of it lies in the file system."""

    def started(self, pid: int) -> None:
        root = _starts([pid])
        self._known |= root
        self._groups |= root

    def fork(self) -> int:
        return os.fork()

    def enter(self) -> None:
        # Without /proc a process cannot find its own environment block: its tag shows in what it starts.
        os.environ[VARIABLE] = self.tag
        with contextlib.suppress(PermissionError):  # it leads a session already
            os.setsid()

    def entry(self) -> Entry:
        return Entry(new_session=True, tag=self.tag)

    def kill_round(self, roots: Iterable[int] = ()) -> bool:
        alive = [pidfd for pidfd in roots if not is_dead(pidfd)]
        running = [row for row in self.inside(process_table()).values() if not row.state.startswith("Z")]
        if not running and not alive:
            self._empty_rounds += 1
            return self._empty_rounds == 2
        self._empty_rounds = 0
        fresh = [row for row in running if (row.pid, row.started) not in self._stopped]
        signal_rows(fresh, signal.SIGSTOP)
        self._stopped |= {(row.pid, row.started) for row in fresh}
        signal_rows(running, signal.SIGKILL)
        for pidfd in alive:
            send(pidfd, signal.SIGKILL)
        return False

    def members(self) -> tuple[int, ...]:
        return tuple(row.pid for row in self.inside(process_table()).values() if not row.state.startswith("Z"))

    def cpu_seconds(self) -> float:
        return self._cpu_seconds

    def inside(self, table: Mapping[int, Row]) -> dict[int, Row]:
        """The members in ``table``, zombies too; they are remembered for when they lose their parent."""
        # A group keeps its number as long as it has a member, and no process gets that number meanwhile: whoever has it
        # and is not the root shows that the group was empty, and is another's now.
        in_use = {row.group for row in table.values()}
        self._groups = {
            group: started
            for group, started in self._groups.items()
            if (table[group].started == started if group in table else group in in_use)
        }
        found = members_of(table, self._mark, self._known, self._groups, [os.getpid(), os.getppid()])
        self._known = {row.pid: row.started for row in found.values()}
        self._cpu_seconds = max(self._cpu_seconds, sum(row.cpu_seconds for row in found.values()))
        return found


class GroupContainment:
    """See the module's text for what it cannot do."""

    name = "pgroup"
    exact_cpu = False

    def __init__(self, instance: str):
        self.instance = check_instance(instance)

    def prepare(self) -> None:
        """There is no place to make."""

    def leave(self) -> None:
        """There is no place to remove."""

    def register(self, pid: int) -> None:
        """Orphans do not come to the keeper here, so that there are no strays to tell from its children."""

    def unregister(self, pid: int) -> None:
        """See `register`."""

    def worker(self, worker: str, tag: str) -> Container:
        return GroupContainer(naming.worker_name(worker), tag, is_worker=True)

    def server(self, worker: str, tag: str, server: str, generation: int) -> Container:
        name = naming.server_name(worker, server, generation)
        return GroupContainer(name, server_tag(tag, server, generation), is_worker=False)

    def usage(
        self, containers: Mapping[str, Container], roots: Mapping[str, int], *, memory: bool = False
    ) -> dict[str, Usage]:
        table = process_table()
        figures = {}
        for key, container in containers.items():
            if not isinstance(container, GroupContainer):
                raise TypeError(f"cannot measure {container.name}: it was made by another containment")
            if key in roots:
                container.started(roots[key])
            rows = [row for row in container.inside(table).values() if not row.state.startswith("Z")]
            figures[key] = Usage(
                cpu_seconds=container.cpu_seconds(),
                memory_bytes=sum(row.resident for row in rows),
                processes=len(rows),
                pids=tuple(row.pid for row in rows),
            )
        return figures

    def glance(self, container: Container, root: int) -> tuple[int, int]:
        found = self.usage({"": container}, {"": root})[""]
        return found.memory_bytes, found.processes

    def reap_adopted(self) -> list[int]:
        return []  # orphans go to the system's first process

    def find(self, spare: Iterable[int] = ()) -> list[Leftover]:
        return [
            # ps tells the start to the second and as text, which is no number of ticks.
            Leftover(pid=row.pid, start_ticks=0, command=row.command, proof="tag", memory_bytes=row.resident)
            for row in self._left(spare)
        ]

    def sweep(self, spare: Iterable[int] = ()) -> list[Leftover]:
        found = self.find(spare)
        rows = self._left(spare)
        signal_rows(rows, signal.SIGSTOP)
        signal_rows(rows, signal.SIGKILL)
        return found

    def _left(self, spare: Iterable[int]) -> list[Row]:
        table = process_table()
        known = {pid: table[pid].started for pid in spare if pid in table}
        in_use = members_of(table, "", known)
        found = members_of(table, self.instance + "-", {}, spared={os.getpid(), *in_use})
        return [row for row in found.values() if not row.state.startswith("Z")]


def probe(instance: str) -> GroupContainment:
    """Raises `Unsupported` with the reason."""
    if os.name != "posix":
        raise Unsupported("not this system")
    try:
        process_table()
    except ContainmentError as problem:
        raise Unsupported(str(problem)) from problem
    return GroupContainment(instance)
