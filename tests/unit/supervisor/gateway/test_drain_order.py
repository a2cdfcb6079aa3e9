from __future__ import annotations

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.gateway.drain_order import DrainOrder

A, B = SessionKey("a"), SessionKey("b")


def test_an_order_for_one_session_covers_it_and_no_other() -> None:
    order = DrainOrder()
    assert not order
    order.give(A, 100.0)
    assert order
    assert (order.covers(A), order.covers(B)) == (True, False)
    assert not order.lift(B)
    assert order.lift(A)
    assert not order


def test_lifting_everything_lifts_the_sessions_too_and_lifting_a_session_not_everything() -> None:
    order = DrainOrder()
    order.give(None, 100.0)
    order.give(A, 100.0)
    assert order.covers(B)
    assert order.lift(A)
    assert order.covers(A), "by the order for all"
    order.give(A, 100.0)
    assert order.lift(None)
    assert not order.covers(A)
    assert not order.lift(None)


def test_the_time_is_that_of_the_first_order_for_everything_that_is_not_lifted() -> None:
    order = DrainOrder()
    order.give(A, 100.0)
    order.give(None, 200.0)
    order.give(None, 300.0)
    assert order.since == 200.0
    order.lift(None)
    order.give(None, 400.0)
    assert order.since == 400.0
