"""The router alone, and a small world that obeys it: what must hold in every state that can come about."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.gateway.router import Evict, Grant, LaneView, Start, Wait, plan
from hermesd.supervisor.pool.worker_life import WITH_PROCESS, State

SLOTLESS = [State.HIBERNATED, State.IDLE, State.STARTING, State.STOPPING, State.BACKOFF, State.QUARANTINED]
SLOTTED = [State.BUSY, State.WAITING, State.STARTING, State.DRAINING, State.STOPPING, State.BACKOFF]


def lane(key: str, worker: State = State.HIBERNATED, *, slot: bool = False, wants: float | None = None,
         idle: float = 0.0) -> LaneView:  # fmt: skip
    return LaneView(SessionKey(key), worker, idle, slot, wants is not None, wants or 0.0)


@st.composite
def pictures(draw: st.DrawFn) -> list[LaneView]:
    lanes = []
    for number in range(draw(st.integers(0, 8))):
        slot = draw(st.booleans())
        worker = draw(st.sampled_from(SLOTTED if slot else SLOTLESS))
        wants = worker not in (State.BACKOFF, State.QUARANTINED) and draw(st.booleans())
        lanes.append(
            LaneView(SessionKey(f"s{number}"), worker, draw(st.floats(0, 9)), slot, wants, draw(st.floats(0, 9)))
        )
    return lanes


LIMITS = st.integers(1, 6)


@given(pictures(), LIMITS, LIMITS)
@settings(max_examples=500)
def test_one_plan(lanes: list[LaneView], max_turns: int, max_workers: int) -> None:
    decisions = plan(lanes, max_turns=max_turns, max_workers=max_workers)
    by_key = {view.key: view for view in lanes}
    grants = [by_key[one.key] for one in decisions if isinstance(one, Grant)]
    evicted = [by_key[one.key] for one in decisions if isinstance(one, Evict)]
    waits = [one for one in decisions if isinstance(one, Wait)]
    waiting = sorted(
        (view for view in lanes if view.wants and not view.holds_slot), key=lambda view: (view.waiting_since, view.key)
    )

    used = sum(view.holds_slot for view in lanes)
    assert used + len(grants) <= max(max_turns, used)
    promised = sum(view.worker in WITH_PROCESS or view.holds_slot for view in lanes)
    started = sum(view.worker not in WITH_PROCESS for view in grants)
    assert promised + started <= max(max_workers, promised)

    assert all(view in waiting and view.worker is not State.STOPPING for view in grants)
    assert len({one.key for one in decisions}) == len(decisions)

    assert all(view.worker is State.IDLE and not view.wants and not view.holds_slot for view in evicted)
    spared = [view.idle_since for view in lanes if view.worker is State.IDLE and not view.wants
              and not view.holds_slot and view not in evicted]  # fmt: skip
    assert not evicted or not spared or max(view.idle_since for view in evicted) <= min(spared)
    in_need = [view for view in waiting if view not in grants and view.worker not in WITH_PROCESS]
    free_slots = max(0, max_turns - used - len(grants))
    leaving = sum(view.worker is State.STOPPING and not view.wants and not view.holds_slot for view in lanes)
    assert len(evicted) <= max(0, min(len(in_need), free_slots) - leaving)

    assert [one.place for one in waits] == list(range(1, len(waits) + 1))
    told = [one.key for one in waits]
    assert told == [view.key for view in waiting if view.key in set(told)], "first come, first in the line"
    silent = [view for view in waiting if view not in grants and view.key not in set(told)]
    for view in silent:
        assert view.worker is State.STOPPING or view.worker not in WITH_PROCESS
    assert len([view for view in silent if view.worker not in WITH_PROCESS]) <= leaving + len(evicted)

    # Nobody overtakes one that needs no more than it does.
    for position, view in enumerate(waiting):
        if view.key in set(told):
            later = [other for other in waiting[position:] if other in grants]
            if view.worker in WITH_PROCESS:
                assert not later
            else:
                assert all(other.worker in WITH_PROCESS for other in later)


def test_the_one_idle_for_longest_makes_room() -> None:
    lanes = [lane("a", State.IDLE, idle=5.0), lane("b", State.IDLE, idle=1.0), lane("c", wants=7.0)]
    assert plan(lanes, max_turns=4, max_workers=2) == [Evict(SessionKey("b"))]


def test_one_that_is_leaving_already_is_enough() -> None:
    lanes = [lane("a", State.IDLE), lane("b", State.STOPPING), lane("c", wants=1.0)]
    assert plan(lanes, max_turns=4, max_workers=2) == []


def test_one_slot_evicts_one_worker() -> None:
    lanes = [lane("a", State.IDLE), lane("b", State.IDLE), lane("c", wants=1.0), lane("d", wants=2.0)]
    assert plan(lanes, max_turns=1, max_workers=2) == [Evict(SessionKey("a")), Wait(SessionKey("d"), 1)]


def test_if_none_is_idle_it_waits() -> None:
    lanes = [lane("a", State.BUSY, slot=True), lane("b", wants=1.0), lane("c", wants=0.5)]
    assert plan(lanes, max_turns=4, max_workers=1) == [Wait(SessionKey("c"), 1), Wait(SessionKey("b"), 2)]


def test_a_session_that_backs_off_with_a_turn_keeps_its_place() -> None:
    lanes = [lane("a", State.BACKOFF, slot=True), lane("b", wants=1.0)]
    assert plan(lanes, max_turns=4, max_workers=1) == [Wait(SessionKey("b"), 1)]


def test_one_whose_own_worker_is_ending_is_told_nothing() -> None:
    assert plan([lane("a", State.STOPPING, wants=1.0)], max_turns=4, max_workers=1) == []


def test_a_session_that_is_restarted_gets_a_process_under_the_same_limits() -> None:
    restarted = replace(lane("r"), restarting=True, waiting_since=3.0)
    key = restarted.key
    assert plan([restarted], max_turns=1, max_workers=1) == [Start(key)]
    assert plan([lane("a", State.BUSY, slot=True), restarted], max_turns=1, max_workers=2) == [Start(key)], "no slot"
    assert plan([lane("a", State.BUSY, slot=True), restarted], max_turns=1, max_workers=1) == []
    assert plan([lane("a", State.IDLE), restarted], max_turns=1, max_workers=1) == [Evict(SessionKey("a"))]
    assert plan([lane("a", State.STOPPING), restarted], max_turns=1, max_workers=1) == []
    first = lane("w", wants=1.0)
    assert plan([first, restarted], max_turns=2, max_workers=1) == [Grant(first.key)]


def test_a_session_that_is_restarted_and_has_a_message_begins_with_it() -> None:
    both = replace(lane("r", wants=1.0), restarting=True)
    busy = lane("a", State.BUSY, slot=True)
    assert plan([both], max_turns=1, max_workers=1) == [Grant(both.key)]
    assert plan([busy, both], max_turns=1, max_workers=2) == [Start(both.key)]
    assert plan([busy, both], max_turns=1, max_workers=1) == [Wait(both.key, 1)]


@dataclass
class Life:
    view: LaneView
    queued: int = 0
    restarting: bool = False
    arrived: float = 0.0


class World(RuleBasedStateMachine):
    """Sessions whose workers start, answer, crash and end in any order; every plan is obeyed at once."""

    MAX_TURNS, MAX_WORKERS = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0
        self.lives = {name: Life(lane(name)) for name in "abcdef"}
        self.granted: list[tuple[str, float]] = []

    def tick(self) -> float:
        self.clock += 1.0
        return self.clock

    def set(self, name: str, **fields: object) -> None:
        self.lives[name].view = replace(self.lives[name].view, **fields)  # type: ignore[arg-type]

    def obey(self) -> None:
        for life in self.lives.values():
            wants = life.queued > 0 and life.view.worker is not State.BACKOFF
            restarting = life.restarting and life.view.worker is State.HIBERNATED
            life.view = replace(life.view, wants=wants, waiting_since=life.arrived, restarting=restarting)
        views = [life.view for life in self.lives.values()]
        for one in plan(views, max_turns=self.MAX_TURNS, max_workers=self.MAX_WORKERS):
            life = self.lives[one.key]
            match one:
                case Grant():
                    assert life.queued
                    assert not life.view.holds_slot
                    life.queued -= 1
                    state = {State.HIBERNATED: State.STARTING, State.IDLE: State.BUSY}.get(
                        life.view.worker, life.view.worker
                    )
                    self.set(one.key, holds_slot=True, worker=state)
                    life.restarting = life.restarting and state is not State.STARTING
                case Start():
                    assert life.view.worker is State.HIBERNATED
                    self.set(one.key, worker=State.STARTING)
                    life.restarting = False
                case Evict():
                    assert life.view.worker is State.IDLE
                    self.set(one.key, worker=State.STOPPING)

    def those(self, *states: State) -> list[str]:
        return [name for name, life in self.lives.items() if life.view.worker in states]

    @rule(name=st.sampled_from("abcdef"))
    def message(self, name: str) -> None:
        life = self.lives[name]
        if not life.queued:
            life.arrived = self.tick()
        life.queued += 1
        self.obey()

    @rule(name=st.sampled_from("abcdef"))
    def restart(self, name: str) -> None:
        life = self.lives[name]
        if life.view.worker in (State.IDLE, State.BUSY):
            self.set(name, worker=State.STOPPING, holds_slot=False)
        elif life.view.worker is not State.HIBERNATED:
            return
        life.restarting = True
        if not life.queued:
            life.arrived = self.tick()
        self.obey()

    @precondition(lambda self: self.those(State.STARTING))
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.those(State.STARTING)))
        self.set(name, worker=State.BUSY if self.lives[name].view.holds_slot else State.IDLE)
        self.obey()

    @precondition(lambda self: self.those(State.BUSY))
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.those(State.BUSY)))
        self.set(name, worker=State.IDLE, holds_slot=False, idle_since=self.tick())
        self.lives[name].arrived = self.tick()
        self.obey()

    @precondition(lambda self: self.those(State.STARTING))
    @rule(data=st.data())
    def died_while_starting(self, data: st.DataObject) -> None:
        self.set(data.draw(st.sampled_from(self.those(State.STARTING))), worker=State.BACKOFF)
        self.obey()

    @precondition(lambda self: self.those(State.BUSY, State.IDLE))
    @rule(data=st.data())
    def died(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.those(State.BUSY, State.IDLE)))
        self.set(name, worker=State.BACKOFF, holds_slot=False)
        self.obey()

    @precondition(lambda self: self.those(State.BACKOFF))
    @rule(data=st.data())
    def backed_off(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.those(State.BACKOFF)))
        self.set(name, worker=State.STARTING if self.lives[name].view.holds_slot else State.HIBERNATED)
        self.obey()

    @precondition(lambda self: self.those(State.STOPPING))
    @rule(data=st.data())
    def ended(self, data: st.DataObject) -> None:
        self.set(data.draw(st.sampled_from(self.those(State.STOPPING))), worker=State.HIBERNATED)
        self.obey()

    @invariant()
    def never_more_than_the_limits(self) -> None:
        views = [life.view for life in self.lives.values()]
        assert sum(view.holds_slot for view in views) <= self.MAX_TURNS
        assert sum(view.worker in WITH_PROCESS for view in views) <= self.MAX_WORKERS

    def teardown(self) -> None:
        """When everything is answered, everybody has been."""
        for _ in range(2000):
            for name in self.those(State.STARTING):
                self.set(name, worker=State.BUSY if self.lives[name].view.holds_slot else State.IDLE)
            for name in self.those(State.BACKOFF):
                self.set(name, worker=State.STARTING if self.lives[name].view.holds_slot else State.HIBERNATED)
            for name in self.those(State.STOPPING):
                self.set(name, worker=State.HIBERNATED)
            for name in self.those(State.BUSY)[:1]:
                self.set(name, worker=State.IDLE, holds_slot=False, idle_since=self.tick())
                self.lives[name].arrived = self.tick()
            self.obey()
            if not any(life.queued or life.restarting or life.view.holds_slot for life in self.lives.values()):
                return
        raise AssertionError("somebody waits for ever")


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
