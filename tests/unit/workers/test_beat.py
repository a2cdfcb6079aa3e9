from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermesd.workers.link_thread import WHOLE_SECONDS, next_beat


@given(st.floats(0.0, 1e7), st.floats(WHOLE_SECONDS, 60.0))
def test_rare_heartbeats_come_at_whole_seconds_and_never_later_than_they_should(now: float, every: float) -> None:
    due = next_beat(now, every)
    assert due == int(due)
    assert every - 1.0 <= due - now + 1e-6
    assert due - now <= every + 1e-6


def test_frequent_ones_keep_their_distance() -> None:
    assert next_beat(10.25, 1.0) == 11.25
