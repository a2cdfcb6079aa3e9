"""Which waiting turn may go to which worker now. Pure: a picture of the lanes in, a list of decisions out.

A session has at most one worker and one running turn. ``max_turns`` bounds the turns that hold a slot, ``max_workers``
the processes. When every process place is taken, the worker that has been idle longest since its last *turn* gives its
place up; if none is idle the turn waits, and its user is told the place in the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hermesd.ipc.ids import SessionKey

from ..pool.worker_life import WITH_PROCESS, State


@dataclass(frozen=True, slots=True)
class LaneView:
    """One session as the router sees it."""

    key: SessionKey
    worker: State
    idle_since: float  # monotonic seconds of the end of the last turn
    holds_slot: bool  # a turn of it is dispatched, running, or granted and waiting for its worker
    wants: bool  # a turn is at the head of its queue
    waiting_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The head of this lane gets a slot: dispatch it, starting a worker first if there is none."""

    key: SessionKey


@dataclass(frozen=True, slots=True)
class Evict:
    """This idle worker must end, so that another session can have its place."""

    key: SessionKey


@dataclass(frozen=True, slots=True)
class Wait:
    """The head of this lane waits; ``place`` counts from 1."""

    key: SessionKey
    place: int


Decision = Grant | Evict | Wait


def plan(lanes: Iterable[LaneView], *, max_turns: int, max_workers: int) -> list[Decision]:
    """Decide for all lanes at once, first come first served.

    Spares (processes that wait for a session) hold no place: the next start takes one over.
    """
    every: Sequence[LaneView] = list(lanes)
    waiting = sorted(
        (lane for lane in every if lane.wants and not lane.holds_slot), key=lambda lane: (lane.waiting_since, lane.key)
    )
    if not waiting:
        return []
    slots = max_turns - sum(lane.holds_slot for lane in every)
    places = max_workers - sum(lane.worker in WITH_PROCESS for lane in every)
    idle = sorted(
        (lane for lane in every if lane.worker is State.IDLE and not lane.holds_slot and not lane.wants),
        key=lambda lane: lane.idle_since,
    )
    leaving = sum(lane.worker is State.STOPPING for lane in every)
    decisions: list[Decision] = []
    place = 0
    for lane in waiting:
        has_worker = lane.worker in WITH_PROCESS
        if slots > 0 and lane.worker is not State.STOPPING and (has_worker or places > 0):
            slots -= 1
            if not has_worker:
                places -= 1
            decisions.append(Grant(lane.key))
            continue
        if slots > 0 and not has_worker and leaving <= 0 and idle:
            decisions.append(Evict(idle.pop(0).key))
            leaving += 1
        if slots > 0 and not has_worker:
            leaving -= 1
        place += 1
        decisions.append(Wait(lane.key, place))
    return decisions
