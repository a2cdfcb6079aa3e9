"""Who uses the processor without a turn."""

from __future__ import annotations

from hermesd.supervisor.pool.burning import SHARE, WHOLE_SHARE, Signs, judge


def test_half_a_core_used_for_long_enough_is_told() -> None:
    begun, burn = judge(None, Signs(3, 100.0, 7.0), 15.0)
    assert burn is None
    begun, burn = judge(begun, Signs(3, 114.0, 14.0), 15.0)
    assert (begun, burn) == (Signs(3, 100.0, 7.0), None), "too early"
    assert judge(begun, Signs(3, 120.0, 17.0), 21.0)[1] is None
    begun, burn = judge(begun, Signs(3, 120.0, 17.0), 15.0)
    assert burn is not None
    assert str(burn) == "busy without a turn: 10.0 s CPU within 20 s"
    assert begun == Signs(3, 120.0, 17.0)


def test_little_work_a_turn_between_or_another_way_of_counting_is_nothing() -> None:
    begun = Signs(3, 100.0, 7.0)
    assert judge(begun, Signs(3, 120.0, 7.0 + SHARE * 20.0 - 0.1), 15.0)[1] is None
    assert judge(begun, Signs(4, 120.0, 27.0), 15.0) == (Signs(4, 120.0, 27.0), None)
    assert judge(begun, Signs(3, 120.0, 90.0, whole=True), 15.0) == (Signs(3, 120.0, 90.0, whole=True), None)


def test_what_tool_servers_do_by_themselves_may_be_more() -> None:
    begun = Signs(3, 100.0, 7.0, whole=True)
    assert judge(begun, Signs(3, 120.0, 7.0 + (WHOLE_SHARE - 0.01) * 20.0, whole=True), 15.0)[1] is None
    burn = judge(begun, Signs(3, 120.0, 7.0 + (WHOLE_SHARE + 0.01) * 20.0, whole=True), 15.0)[1]
    assert str(burn) == "busy without a turn: 6.2 s CPU of it and what it started within 20 s"
