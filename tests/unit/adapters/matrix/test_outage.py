from __future__ import annotations

from itertools import pairwise

from mautrix.errors import MatrixConnectionError, MatrixUnknownRequestError

from hermesd.adapters.errors import AdapterError, Unauthorized
from hermesd.adapters.matrix.calls import Limited, translated
from hermesd.adapters.matrix.outage import DELAYS, GIVE_UP_SECONDS, Outage


def error(cause: Exception) -> AdapterError:
    made = translated(cause, "read from Matrix")
    assert made is not None
    made.__cause__ = cause
    return made


SILENT = error(MatrixConnectionError("connection refused"))
BUSY = error(MatrixUnknownRequestError(503, "<html>", "the server is down"))


def tries(outage: Outage, failing: AdapterError, seconds: float, start: float = 0.0) -> tuple[list[float], bool]:
    """When a sync that always fails at once is tried within this time, and whether it was given up."""
    now, made = start, [start]
    while (delay := outage.failed(failing, now)) is not None:
        now += delay
        if now > start + seconds:
            return made, False
        made.append(now)
    return made, True


def test_a_server_that_cannot_be_reached_is_given_up_after_a_minute() -> None:
    made, given_up = tries(Outage(), SILENT, 3600.0)
    assert given_up
    assert GIVE_UP_SECONDS <= made[-1] <= GIVE_UP_SECONDS + DELAYS[-1]
    assert made[1] <= 2.0, "a short break is over soon"


def test_one_that_is_busy_is_asked_twice_a_minute_however_long_it_takes() -> None:
    made, given_up = tries(Outage(), BUSY, 7200.0)
    assert not given_up
    assert max(later - one for one, later in pairwise(made)) == DELAYS[-1]


def test_it_says_itself_when_the_next_try_may_come() -> None:
    assert Outage().failed(error(Limited(429, "too many", 45.0)), 0.0) == 45.0


def test_a_sync_that_comes_ends_it_and_the_next_outage_begins_anew() -> None:
    outage = Outage()
    assert not outage.over()
    tries(outage, SILENT, 50.0)
    assert outage.over()
    assert not outage.over()
    assert outage.failed(SILENT, 55.0) is not None
    assert outage.failed(SILENT, 55.0 + GIVE_UP_SECONDS - 1.0) is not None


def test_an_answer_between_two_silences_is_a_sign_of_life() -> None:
    outage = Outage()
    for now in range(0, 600, 50):
        assert outage.failed(SILENT, now) is not None
        assert outage.failed(BUSY, now + 25) is not None


def test_a_token_that_is_refused_is_not_tried_again() -> None:
    assert Outage().failed(Unauthorized("M_UNKNOWN_TOKEN"), 0.0) is None
