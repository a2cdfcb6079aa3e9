from __future__ import annotations

from hermesd.adapters.webhook.rates import Rates


def test_so_many_in_any_minute_for_each_route() -> None:
    rates = Rates(2)
    assert [rates.take("a", at) for at in (0.0, 10.0)] == [0.0, 0.0]
    assert rates.take("a", 20.0) == 40.0
    assert rates.take("b", 20.0) == 0.0
    assert rates.take("a", 60.0) == 0.0, "the first is a minute ago"
    assert rates.take("a", 61.0) == 9.0
    assert rates.take("a", 70.0) == 0.0


def test_a_refused_request_does_not_count() -> None:
    rates = Rates(1)
    rates.take("a", 0.0)
    for at in range(1, 60):
        assert rates.take("a", float(at)) > 0
    assert rates.take("a", 60.0) == 0.0
