from __future__ import annotations

from dataclasses import replace

import pytest

from hermesd.ipc.messages import Ask, Snapshot
from hermesd.supervisor.gateway.reconcile import Step, questions, reconcile

SESSION = "20261122_185500_1a2b3c4d"
IDLE = Snapshot("agent:main:fake:dm:c1", SESSION, ready=True)
ASK = Ask("a1", "t1", "May I?", ("approve", "deny"), 60.0)
OLD_ASK = replace(ASK, ask="a0", turn="t0")


@pytest.mark.parametrize(
    ("snapshot", "turn", "steps"),
    [
        (IDLE, "", ()),
        (replace(IDLE, ready=False, error="no such module"), "", ()),
        (replace(IDLE, turn="t1"), "t1", ()),
        (replace(IDLE, turn="t1", text="so far"), "t1", (Step.SHOW_TEXT,)),
        (replace(IDLE, turn="t1", asks=(ASK,)), "t1", (Step.WAIT_FOR_USER,)),
        (replace(IDLE, turn="t1", text="so far", asks=(ASK,)), "t1", (Step.SHOW_TEXT, Step.WAIT_FOR_USER)),
        (replace(IDLE, turn="t1", asks=(OLD_ASK,)), "t1", ()),
        (replace(IDLE, asks=(ASK,)), "", ()),
        (IDLE, "t1", (Step.START_AGAIN,)),
        (replace(IDLE, ready=False, error="no such module"), "t1", (Step.START_AGAIN,)),
        (replace(IDLE, turn="t1"), "", (Step.END,)),
        (replace(IDLE, turn="t1"), "t2", (Step.END,)),
        (replace(IDLE, ready=False), "", (Step.END,)),
        (replace(IDLE, ready=False), "t1", (Step.END,)),
        (replace(IDLE, session_id="another"), "", (Step.END,)),
        (replace(IDLE, session_id="another", turn="t1"), "t1", (Step.END,)),
        (Snapshot("", "", ready=False), "", (Step.END,)),
        (Snapshot("", "", ready=False), "t1", (Step.END,)),
    ],
)
def test_what_follows_from_a_snapshot(snapshot: Snapshot, turn: str, steps: tuple[Step, ...]) -> None:
    verdict = reconcile(snapshot, session_id=SESSION, turn=turn)
    assert verdict.steps == steps
    assert bool(verdict.reason) == (Step.END in steps)


def test_only_questions_of_the_running_turn_are_open() -> None:
    assert questions(replace(IDLE, turn="t1", asks=(OLD_ASK, ASK))) == (ASK,)
    assert questions(replace(IDLE, asks=(ASK,))) == ()
