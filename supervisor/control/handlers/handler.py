"""What the handlers of the control API have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hermesd.supervisor.app import App

Params = Mapping[str, Any]


class Handler:
    """Answers some verbs of `hermesd.supervisor.control.api.VERBS` from the app's state."""

    def __init__(self, app: App):
        self._app = app


def outcome_row(session: str, outcome: str, detail: str) -> dict[str, Any]:
    """One line of an answer about several sessions."""
    return {"session": session, "outcome": outcome, "detail": detail}


def progress_event(phase: str, workers: int, busy: int, left: float) -> dict[str, Any]:
    """What a verb that takes its time says meanwhile."""
    return {"phase": phase, "workers": workers, "busy": busy, "left_s": left}
