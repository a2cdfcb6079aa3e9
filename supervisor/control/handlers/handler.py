"""What the handlers of the control API have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.control import naming
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.journal import sessions
from hermesd.supervisor.pool.worker_life import State

if TYPE_CHECKING:
    from hermesd.supervisor.app import App

Params = Mapping[str, Any]


class Handler:
    """Answers some verbs of `hermesd.supervisor.control.api.VERBS` from the app's state."""

    def __init__(self, app: App):
        self._app = app

    async def session_named(self, name: str, *, ended: bool = False) -> SessionKey:
        """The session that a client means by its key or an ending of it; ``ended``: also one that is over.

        Raises `Refused` for none and for several.
        """
        found = naming.find(name, await self._named(name, ended))
        if len(found) == 1:
            return SessionKey(found[0])
        if found:
            raise Refused(Code.USAGE, naming.ambiguous(name, found), naming.MORE)
        near = naming.did_you_mean(naming.near(name, await self._app.journal.read(sessions.keys)))
        raise Refused(Code.NOT_FOUND, f"there is no session {name}", near or "hermesctl sessions list")

    async def sessions_named(self, names: Iterable[str]) -> tuple[list[SessionKey], dict[str, str]]:
        """Those that are meant, each once; and the names that no session has, with a word on what may be meant.

        Raises `Refused` where one of the names could be several sessions: then nothing is done to any.
        """
        known: dict[SessionKey, None] = {}
        unknown: dict[str, str] = {}
        for name in dict.fromkeys(names):
            try:
                known[await self.session_named(name)] = None
            except Refused as refused:
                if refused.code != Code.NOT_FOUND:
                    raise
                unknown[name] = refused.next_step if refused.next_step.startswith("did you") else ""
        return list(known), unknown

    async def _named(self, name: str, ended: bool) -> list[str]:
        """What the journal and the lanes have by that name: a session that waits for its first worker has no row."""
        found: list[str] = await self._app.journal.read(sessions.keys_named, name, ended=ended)
        busy = (
            key
            for key, lane in self._app.lanes.lanes.items()
            if lane.life is not State.HIBERNATED or lane.current is not None or lane.queue
        )
        return [*found, *naming.find(name, busy)]


def outcome_row(session: str, outcome: str, detail: str) -> dict[str, Any]:
    """One line of an answer about several sessions."""
    return {"session": session, "outcome": outcome, "detail": detail}


def progress_event(phase: str, workers: int, busy: int, left: float) -> dict[str, Any]:
    """What a verb that takes its time says meanwhile."""
    return {"phase": phase, "workers": workers, "busy": busy, "left_s": left}
