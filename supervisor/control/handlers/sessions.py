"""``sessions``: what was ever talked about, and a fresh start."""

from __future__ import annotations

from typing import Any

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.journal import sessions, turns
from hermesd.supervisor.journal.errors import JournalError, UnknownRow
from hermesd.supervisor.journal.rows import SessionRow, TurnRow
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool import worker_life

from .handler import Handler, Params, outcome_row

TURN_TEXT = 200
"""Characters of a message that `sessions show` tells."""


class SessionsHandler(Handler):
    async def sessions_list(self, params: Params) -> dict[str, Any]:
        rows = await self._app.journal.read(sessions.list_current)
        return {"schema": SCHEMA, "sessions": [await self._session_row(row) for row in rows]}

    async def sessions_show(self, params: Params) -> dict[str, Any]:
        key = await self.session_named(params["session"])
        history = await self._app.journal.read(sessions.show, key)
        if history is None or history.current is None:
            raise Refused(Code.NOT_FOUND, f"there is no session {key}", "hermesctl sessions list")
        last = await self._app.journal.read(turns.recent, key, 5)
        past = self._app.lanes.past_of(key)
        return {
            "schema": SCHEMA,
            "session": await self._session_row(history.current),
            "transcript_entries": history.entries,
            "restarts": past.restarts,
            "last_end": past.last_end,
            "evidence": hang.evidence if (hang := self._app.watch.last_of(key)) is not None else "",
            "last_turns": [_turn_row(turn) for turn in last],
        }

    async def _session_row(self, row: SessionRow) -> dict[str, Any]:
        last = await self._app.journal.read(turns.recent, row.key, 1)
        lane = self._app.lanes.lane_of(SessionKey(row.key))
        return {
            "session": row.key,
            "id": row.session_id,
            "platform": row.origin.platform,
            "user": row.origin.user_name or row.origin.user_id,
            "state": lane.life.value if lane is not None else worker_life.State.HIBERNATED.value,
            "worker": lane.worker.id if lane is not None and lane.worker is not None else None,
            "created_at": rfc3339(row.created_at),
            "last_turn_at": rfc3339(last[0].started_at) if last else None,
            "turns": await self._app.journal.read(turns.count_ended, row.session_id),
            "queue": len(lane.queue) if lane is not None else 0,
            "usage": {"prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens},
        }

    async def sessions_reset(self, params: Params) -> dict[str, Any]:
        known, unknown = await self.sessions_named(params["sessions"])
        outcomes = [outcome_row(name, "not_found", near) for name, near in unknown.items()]
        for key in known:
            try:
                session_id = await self._app.lanes.orders.reset_session(key, "reset by hermesctl")
                outcomes.append(outcome_row(key, "done", f"the conversation is {session_id} now"))
            except UnknownRow:
                outcomes.append(outcome_row(key, "not_found", ""))
            except JournalError as error:
                outcomes.append(outcome_row(key, "failed", str(error)))
        return {"schema": SCHEMA, "sessions": outcomes}


def _turn_row(turn: TurnRow) -> dict[str, Any]:
    return {
        "turn": turn.turn,
        "state": turn.state.value,
        "started_at": rfc3339(turn.started_at),
        "duration_s": turn.ended_at - turn.started_at if turn.ended_at is not None else None,
        "text": turn.text[:TURN_TEXT],
        "error": turn.error,
    }
