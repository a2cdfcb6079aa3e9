from __future__ import annotations

import pytest

from hermesd.adapters.contract import Rate
from hermesd.adapters.matrix.pace import MARGIN, REMEMBERED, SHORTEST, Pace


def test_a_server_that_refuses_nothing_has_no_limits() -> None:
    pace = Pace()
    assert pace.closed_for(1000.0) == 0.0
    assert pace.rate(1000.0) is None


def test_nothing_is_written_until_the_time_that_the_server_names() -> None:
    pace = Pace()
    assert pace.refused(4.0, 1000.0) == pytest.approx(4.0 + MARGIN)
    assert pace.refused(1.0, 1001.0) == pytest.approx(3.0 + MARGIN), "an earlier refusal holds"
    assert pace.closed_for(1004.0 + MARGIN) == 0.0


def test_the_longest_wait_is_the_time_between_two_messages() -> None:
    pace = Pace()
    pace.refused(0.2, 1000.0)
    assert pace.rate(1000.0) == Rate(1, 2 * SHORTEST)
    pace.refused(4.5, 1001.0)
    pace.refused(0.5, 1002.0)
    assert pace.rate(1002.0) == Rate(1, 9.0)


def test_it_is_found_out_anew_after_a_while() -> None:
    pace = Pace()
    pace.refused(4.5, 1000.0)
    assert pace.rate(1000.0 + REMEMBERED) is None
    pace.refused(2.0, 1000.0 + REMEMBERED)
    assert pace.rate(1000.0 + REMEMBERED) == Rate(1, 4.0)
