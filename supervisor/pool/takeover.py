"""What a hermesd that starts finds of the one before: which workers it takes over, and what it must not sweep.

Two witnesses are compared. The journal says which worker had which session; the keepers that were claimed say which
workers they hold. A worker whose keeper is dead has only its own process to speak for it: pid, start time and tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hermesd.ipc.keeping import Held
from hermesd.supervisor.journal.rows import WorkerRow
from hermesd.supervisor.journal.workers import Estate
from hermesd.workers.containment import Container, Containment, ContainmentError, open_containment
from hermesd.workers.containment.identity import identify
from hermesd.workers.containment.tag import read_tag

from .launchers.claiming import Claimed, Claims


class Fate(StrEnum):
    """What becomes of a worker that is in the journal."""

    HELD = "held"  # its keeper lives and has it: both are taken over
    ORPHANED = "orphaned"  # it lives and its keeper is dead: the new keeper takes it
    UNWANTED = "unwanted"  # nobody waits for it any more: it is ended
    GONE = "gone"


def fate(*, held: bool, lives: bool, wanted: bool) -> Fate:
    """``held``: by a keeper that was claimed. ``lives``: its process, by pid, start time and tag.

    ``wanted``: its session goes on. The caller of a stateless request went with its connection.
    """
    if held:
        return Fate.HELD if wanted else Fate.UNWANTED
    if lives:
        return Fate.ORPHANED if wanted else Fate.UNWANTED
    return Fate.GONE


@dataclass(frozen=True, slots=True)
class Heir:
    """A worker to take over. ``claimed`` None: its keeper is dead."""

    estate: Estate
    pid: int
    start_ticks: int
    claimed: Claimed | None

    def open(self, instance: str) -> tuple[Containment, Container]:
        """Its container, which another keeper may have made below another place than ours would."""
        row = self.estate.row
        keeper, name = 0, row.containment
        if self.claimed is not None:
            # Of one that was asked for just before the end, the keeper may know more than the journal.
            keeper, name = self.claimed.record.pid, name or self.claimed.ready.containment
        opened = open_containment(name, instance, place=row.place, pid=keeper)
        container = opened.worker(row.worker, row.tag)
        container.started(self.pid)
        return opened, container


@dataclass(frozen=True, slots=True)
class Takeover:
    """``unwanted``: workers that a claimed keeper holds and must end. ``over``: rows of workers that are no more.

    ``spare``: pids that a sweep must leave alone, with what is below them.
    """

    keepers: tuple[Claimed, ...] = ()
    heirs: tuple[Heir, ...] = ()
    unwanted: tuple[tuple[Claimed, str], ...] = ()
    over: tuple[str, ...] = ()
    spare: frozenset[int] = frozenset()


NOTHING = Takeover()


def survey(estates: Iterable[Estate], claims: Claims, instance: str) -> Takeover:
    """Compare the journal with what was claimed and with /proc. Changes nothing."""
    holders: dict[str, tuple[Claimed, Held]] = {}
    for claimed in claims.held:
        holders |= {held.worker: (claimed, held) for held in claimed.ready.workers}
    heirs: list[Heir] = []
    over: list[str] = []
    for estate in estates:
        row = estate.row
        found = holders.get(row.worker)
        held = found is not None and found[1].tag == row.tag
        wanted = estate.session is not None and (not row.ephemeral or estate.outlives_its_caller)
        match fate(held=held, lives=_lives(row) and row.keeper not in claims.leaving, wanted=wanted):
            case Fate.HELD if found is not None:
                heirs.append(Heir(estate, found[1].pid, found[1].start_ticks, found[0]))
            case Fate.ORPHANED:
                heirs.append(Heir(estate, row.pid, row.start_ticks, None))
            case _:
                over.append(row.worker)
    wanted_names = {heir.estate.row.worker for heir in heirs if heir.claimed is not None}
    return Takeover(
        keepers=tuple(claims.held),
        heirs=tuple(heirs),
        unwanted=tuple((claimed, name) for name, (claimed, _) in holders.items() if name not in wanted_names),
        over=tuple(over),
        spare=_spare(claims, heirs, instance),
    )


def _lives(row: WorkerRow) -> bool:
    found = identify(row.pid) if row.pid else None
    return found is not None and found.start_ticks == row.start_ticks and read_tag(row.pid) == row.tag


def _spare(claims: Claims, heirs: Iterable[Heir], instance: str) -> frozenset[int]:
    spare = {claimed.record.pid for claimed in claims.held} | {claimed.ready.guard for claimed in claims.held}
    spare |= {held.pid for claimed in claims.held for held in claimed.ready.workers}
    for heir in heirs:
        spare.add(heir.pid)
        if heir.claimed is None:
            # With a cgroup, orphans of a worker without a keeper are nobody's children and all the same its own.
            try:
                spare |= set(heir.open(instance)[1].members())
            except ContainmentError:
                continue  # the container is gone, the process is not: it is spared by its pid
    return frozenset(spare - {0})
