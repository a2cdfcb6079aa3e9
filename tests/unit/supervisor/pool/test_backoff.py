from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.pool import backoff

JITTER = st.floats(0.0, 1.0)
MOMENTS = st.lists(st.floats(0.0, 600.0), max_size=60).map(sorted)


@given(st.integers(0, 10_000), JITTER)
def test_a_delay_is_bounded(crashes: int, jitter: float) -> None:
    assert backoff.FIRST_DELAY / 2 <= backoff.delay(crashes, jitter) <= backoff.MAX_DELAY


@given(st.integers(0, 1000), JITTER)
def test_more_crashes_never_wait_less(crashes: int, jitter: float) -> None:
    assert backoff.delay(crashes + 1, jitter) >= backoff.delay(crashes, jitter)


@given(st.integers(0, 1000), JITTER, JITTER)
def test_jitter_takes_at_most_half(crashes: int, one: float, other: float) -> None:
    assert backoff.delay(crashes, one) >= backoff.delay(crashes, other) / 2


def test_the_first_delays() -> None:
    assert [backoff.delay(crashes, 0.0) for crashes in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]


@given(MOMENTS)
def test_the_window_holds_the_crashes_of_the_last_minute(moments: list[float]) -> None:
    window = backoff.CrashWindow()
    for index, now in enumerate(moments):
        count = window.add(now)
        assert count == sum(now - at <= backoff.CRASH_WINDOW for at in moments[: index + 1])


def test_a_pardon_forgets() -> None:
    window = backoff.CrashWindow()
    window.add(1.0)
    window.clear()
    assert window.count(1.0) == 0
