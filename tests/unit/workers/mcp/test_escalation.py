"""The polite steps fit into whatever time is left."""

from hermesd.workers.mcp.escalation import Means, Step, polite_steps


def test_the_input_is_closed_before_a_signal_is_sent():
    assert polite_steps(2.0, 10.0) == (Step(Means.CLOSE_STDIN, 2.0), Step(Means.TERMINATE, 2.0))


def test_a_small_budget_shortens_every_step():
    assert [step.wait for step in polite_steps(3.0, 2.0)] == [1.0, 1.0]


def test_without_time_there_is_no_waiting():
    assert [step.wait for step in polite_steps(3.0, -1.0)] == [0.0, 0.0]
