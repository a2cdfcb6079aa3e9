from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.config import derive


@given(st.floats(min_value=2, max_value=1e6))
def test_the_deadlines_of_a_stop_are_in_strict_order(seconds: float) -> None:
    budget = derive(seconds)
    assert 0 < budget.worker_grace < budget.drain < budget.watchdog < budget.unit
    assert budget.watchdog == seconds
    assert budget.turns > 0


@pytest.mark.parametrize("seconds", [0, -1, 1.9, float("inf"), float("nan")])
def test_a_budget_that_nothing_fits_in_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 2 seconds"):
        derive(seconds)
