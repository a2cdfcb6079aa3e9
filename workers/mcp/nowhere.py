"""The container of a server that somebody else runs: nothing of it is on this machine, or is ours to end."""

from __future__ import annotations

from collections.abc import Iterable

from hermesd.workers.containment.contract import Container, Entry


class Nowhere:
    """Implements `hermesd.workers.containment.contract.Container`; always over."""

    name = tag = place = ""

    def create(self) -> None: ...

    def started(self, pid: int) -> None: ...

    def fork(self) -> int:
        raise NotImplementedError("nothing of ours runs here")

    def enter(self) -> None: ...

    def entry(self) -> Entry:
        return Entry()

    def kill_round(self, roots: Iterable[int] = ()) -> bool:
        return True

    def members(self) -> tuple[int, ...]:
        return ()

    def cpu_seconds(self) -> float:
        return 0.0


NOWHERE: Container = Nowhere()
