from __future__ import annotations

import itertools

import pytest

from hermesd.supervisor.gateway.busy import BusyMode, Verdict, judge


@pytest.mark.parametrize("mode", BusyMode)
@pytest.mark.parametrize(("running", "waiting", "own_session"), itertools.product([False, True], repeat=3))
def test_the_whole_table(mode: BusyMode, running: bool, waiting: bool, own_session: bool) -> None:
    verdict = judge(mode, running=running, waiting=waiting, own_session=own_session)
    if not running or own_session:
        assert verdict is Verdict.RUN
    elif waiting:
        assert verdict is Verdict.QUEUE, "an approval is not disturbed"
    else:
        assert (
            verdict
            is {
                BusyMode.QUEUE: Verdict.QUEUE,
                BusyMode.INTERRUPT: Verdict.INTERRUPT_THEN_QUEUE,
                BusyMode.STEER: Verdict.STEER,
            }[mode]
        )
