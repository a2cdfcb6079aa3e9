from __future__ import annotations

import pytest
from harness.gateway import Gateway, until

from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import Ask, Status
from hermesd.supervisor.gateway.time_limits import WORKER_FIRST, TimeLimits, overrun

KEY = SessionKey("agent:main:fake:dm:c1")


@pytest.mark.parametrize(
    ("limits", "now", "active_at", "waits", "reason"),
    [
        (TimeLimits(), 1e9, 0.0, False, ""),
        (TimeLimits(turn=30), 130.0 + WORKER_FIRST, 0.0, False, ""),
        (TimeLimits(turn=30), 130.1 + WORKER_FIRST, 0.0, False, "the turn took longer than 30 s"),
        (TimeLimits(turn=30), 200.0, 199.9, False, "the turn took longer than 30 s"),
        (TimeLimits(turn=30), 200.0, 0.0, True, "the turn took longer than 30 s"),
        (TimeLimits(quiet=30), 130.0, 0.0, False, ""),
        (TimeLimits(quiet=30), 130.1, 0.0, False, "the agent showed nothing for 30 s"),
        (TimeLimits(quiet=30), 500.0, 470.0, False, ""),
        (TimeLimits(quiet=30), 500.1, 470.0, False, "the agent showed nothing for 30 s"),
        (TimeLimits(quiet=30), 5000.0, 470.0, True, ""),
        (TimeLimits(turn=1000, quiet=30), 900.0, 0.0, False, "the agent showed nothing for 30 s"),
    ],
)
def test_when_a_turn_has_overrun(limits: TimeLimits, now: float, active_at: float, waits: bool, reason: str) -> None:
    assert overrun(limits, now=now, started_at=100.0, active_at=active_at, waits_for_user=waits) == reason


class TestTurns:
    async def test_one_that_obeys_ends_with_what_there_is_and_the_reason(self, gateway: Gateway) -> None:
        await gateway.start(turn_timeout=30.0)
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        assert start.timeout == 30.0
        turn = gateway.lanes.lanes[KEY].current
        assert turn is not None
        gateway.lanes.check_time_limits(turn.started_at + 30.0)
        assert not worker.interrupts()
        gateway.lanes.check_time_limits(turn.started_at + 33.0)
        gateway.lanes.check_time_limits(turn.started_at + 34.0)
        (interrupt,) = worker.interrupts()
        worker.has(interrupt)
        worker.finish(start, "half an answer", "interrupted", interrupt.reason)
        assert await gateway.shown(1) == ["half an answer\n\n(stopped: the turn took longer than 30 s)"]
        assert gateway.chat.transcript()[0].kind == "error"
        assert await gateway.turns() == ["interrupted"]
        assert gateway.life() == "idle"

    async def test_one_that_does_not_obey_loses_its_worker_and_its_session_goes_on(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hermesd.supervisor.gateway.turns.INTERRUPT_ARRIVES", 0.02)
        await gateway.start(turn_timeout=30.0)
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        turn = gateway.lanes.lanes[KEY].current
        assert turn is not None
        gateway.lanes.check_time_limits(turn.started_at + 33.0)
        assert await gateway.shown(1) == ["Stopped: the turn took longer than 30 s."]
        assert worker.killed == [True]
        await gateway.say("two", chat="c1")
        await (await gateway.pool.ready(2)).answer("re two")
        assert (await gateway.shown(2))[1] == "re two"

    async def test_a_quiet_one_is_ended_and_one_that_shows_something_or_waits_for_its_user_is_not(
        self, gateway: Gateway
    ) -> None:
        await gateway.start(quiet_timeout=30.0)
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        start = await worker.accept()
        turn = gateway.lanes.lanes[KEY].current
        assert turn is not None
        turn.active_at = turn.started_at = turn.started_at - 29.0
        worker.say(Status(start.turn, "working"))
        gateway.lanes.check_time_limits(turn.started_at + 50.0)
        assert not worker.interrupts()
        worker.say(Ask("a1", start.turn, "May I?", ("approve", "deny"), 300.0))
        await until(lambda: gateway.life() == "waiting")
        gateway.lanes.check_time_limits(turn.started_at + 5000.0)
        assert not worker.interrupts()
        await gateway.say("/approve", chat="c1")
        await until(lambda: gateway.life() == "busy")
        gateway.lanes.check_time_limits(turn.active_at + 29.0)
        assert not worker.interrupts()
        gateway.lanes.check_time_limits(turn.active_at + 31.0)
        (interrupt,) = worker.interrupts()
        assert interrupt.reason == "the agent showed nothing for 30 s"

    async def test_the_user_of_a_quiet_one_is_told_once(self, gateway: Gateway) -> None:
        await gateway.start(quiet_timeout=1800.0, quiet_warning=900.0)
        await gateway.say("one", chat="c1")
        worker = await gateway.pool.ready()
        await worker.accept()
        turn = gateway.lanes.lanes[KEY].current
        assert turn is not None
        gateway.lanes.check_time_limits(turn.active_at + 899.0)
        assert gateway.texts == []
        for seconds in (901.0, 902.0, 1000.0):
            gateway.lanes.check_time_limits(turn.active_at + seconds)
        assert await gateway.shown(1) == [
            "Nothing has been heard of the agent for 15 minutes; it still runs. After 30 minutes it is ended. "
            "/stop ends it now."
        ]
        assert not worker.interrupts()
        gateway.lanes.check_time_limits(turn.active_at + 1801.0)
        assert worker.interrupts()
        assert len(gateway.texts) == 1
