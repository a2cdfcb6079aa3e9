"""What the census asks about processes, whatever the operating system."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Seen(NamedTuple):
    """One process in one scan."""

    pid: int
    parent: int
    state: str  # a letter, as /proc/PID/stat has it
    cpu_seconds: float  # its own and that of the children it has waited for


class Processes(Protocol):
    """What is gone, or another user's, answers with nothing: 0, "", None."""

    def scan(self) -> dict[int, Seen]:
        """Every process; takes some 10 ms for a thousand."""

    def parent_of(self, pid: int) -> int | None: ...

    def own_cpu_seconds(self, pid: int) -> float:
        """User and system time of one process, its children not counted."""

    def memory_of(self, pid: int) -> int:
        """Bytes; PSS where the system gives it, else RSS."""

    def command_of(self, pid: int) -> str:
        """The command line for people, at most 200 characters."""

    def carries(self, pid: int, instance: str) -> bool:
        """Whether it bears a mark of the instance: its cgroup, or the tag in its environment."""
