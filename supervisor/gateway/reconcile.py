"""What a snapshot of a worker that was taken over means for the turn that the journal has for it. Pure.

The durable messages that the dead hermesd had not acknowledged come again before the snapshot. So when the journal's
turn is still open here and the worker is not at it, the worker has never heard of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermesd.ipc.messages import Ask, Snapshot


class Step(StrEnum):
    """What the shell does about it."""

    END = "end"  # the worker is of no use: end it; whatever waits for it gets another one
    START_AGAIN = "start_again"  # send the turn once more; a worker that knows it repeats its answer or goes on
    SHOW_TEXT = "show_text"  # what there is of the answer, for ways in that show it as it comes
    WAIT_FOR_USER = "wait_for_user"  # open its questions again; their user has been asked, and may have answered


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` says why, for an END."""

    steps: tuple[Step, ...] = ()
    reason: str = ""


def reconcile(snapshot: Snapshot, *, session_id: str, turn: str) -> Verdict:
    """``turn``: the one that the session's lane holds for this worker, "" for none."""
    if not snapshot.session_key:
        return Verdict((Step.END,), "it was never told its session")
    if snapshot.session_id != session_id:
        return Verdict((Step.END,), "its conversation is over")
    if not snapshot.ready and not snapshot.error:
        return Verdict((Step.END,), "its agent was not made yet")
    if snapshot.turn and snapshot.turn != turn:
        return Verdict((Step.END,), f"it runs turn {snapshot.turn}, for which nobody waits")
    if turn and not snapshot.turn:
        return Verdict((Step.START_AGAIN,))
    steps = []
    if snapshot.turn and snapshot.text:
        steps.append(Step.SHOW_TEXT)
    if questions(snapshot):
        steps.append(Step.WAIT_FOR_USER)
    return Verdict(tuple(steps))


def questions(snapshot: Snapshot) -> tuple[Ask, ...]:
    """The open questions of the running turn."""
    return tuple(ask for ask in snapshot.asks if snapshot.turn and ask.turn == snapshot.turn)
