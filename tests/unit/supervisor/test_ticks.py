from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.ticks import next_tick, tick_after


@pytest.mark.parametrize(
    ("now", "every", "due"), [(10.0, 1.0, 11.0), (10.3, 1.0, 11.0), (10.3, 2.0, 12.0), (11.9999, 2.0, 14.0), (0, 9, 9)]
)
def test_a_tick_is_the_next_multiple_and_never_the_one_that_has_just_come(now: float, every: float, due: float) -> None:
    assert tick_after(now, every) == due


@given(st.floats(0.0, 1e7), st.sampled_from([1.0, 2.0, 5.0, 60.0]))
def test_it_is_less_than_two_ticks_away_and_those_of_a_longer_beat_are_among_the_shorters(
    now: float, every: float
) -> None:
    due = tick_after(now, every)
    assert 0.0 < due - now <= every * 1.002
    assert due % 1.0 == 0.0


async def test_it_sleeps_until_then() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3):
        began = loop.time()
        due = await next_tick(0.01)
        assert began < due <= loop.time() + 1e-4
        assert due / 0.01 == pytest.approx(round(due / 0.01))
