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
    restarting: bool = False  # a person wants a process for it, turn or not; it has none


@dataclass(frozen=True, slots=True)
class Grant:
    """The head of this lane gets a slot: dispatch it, starting a worker first if there is none."""

    key: SessionKey


@dataclass(frozen=True, slots=True)
class Start:
    """This lane gets a process, and no turn."""

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


Decision = Grant | Start | Evict | Wait


def plan(lanes: Iterable[LaneView], *, max_turns: int, max_workers: int) -> list[Decision]:
    """Decide for all lanes at once, first come first served.

    Spares (processes that wait for a session) hold no place: the next start takes one over. A lane that only waits for
    a process to end, its own or an evicted one, is not told a place: nobody is before it.
    """
    every: Sequence[LaneView] = list(lanes)
    waiting = sorted(
        (lane for lane in every if (lane.wants or lane.restarting) and not lane.holds_slot),
        key=lambda lane: (lane.waiting_since, lane.key),
    )
    if not waiting:
        return []
    slots = max_turns - sum(lane.holds_slot for lane in every)
    # A lane that holds a slot and has no process starts one by itself, when its back-off is over.
    places = max_workers - sum(lane.worker in WITH_PROCESS or lane.holds_slot for lane in every)
    idle = sorted(
        (lane for lane in every if lane.worker is State.IDLE and not lane.holds_slot and not lane.wants),
        key=lambda lane: lane.idle_since,
    )
    # One that wants to go on itself takes its own place again.
    leaving = sum(lane.worker is State.STOPPING and not lane.wants and not lane.holds_slot for lane in every)
    decisions: list[Decision] = []
    place = 0
    for lane in waiting:
        has_worker = lane.worker in WITH_PROCESS
        may_run = lane.wants and slots > 0
        if may_run and lane.worker is State.STOPPING:
            continue  # nobody is before it: it goes as soon as its own worker has ended
        if may_run and (has_worker or places > 0):
            slots -= 1
            if not has_worker:
                places -= 1
            decisions.append(Grant(lane.key))
            continue
        if lane.restarting and places > 0:
            places -= 1
            decisions.append(Start(lane.key))
            continue
        if (may_run or lane.restarting) and (leaving > 0 or idle):
            # A process place is becoming free for it, and the slot is kept for it meanwhile.
            if leaving > 0:
                leaving -= 1
            else:
                decisions.append(Evict(idle.pop(0).key))
            slots -= may_run
            continue
        if lane.wants:
            place += 1
            decisions.append(Wait(lane.key, place))
    return decisions
