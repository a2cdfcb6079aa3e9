"""``outbox``: the messages to chats, and what an operator does with those that did not arrive."""

from __future__ import annotations

from typing import Any

from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.inbox_orders import Unsuitable
from hermesd.supervisor.journal import outbox
from hermesd.supervisor.journal.errors import IllegalTransition, UnknownRow
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.logs import rfc3339

from .handler import Handler, Params
from .rows import BEGINNING, bounded, chosen, each, number

REASON = "dropped by hermesctl"


class OutboxHandler(Handler):
    async def outbox_list(self, params: Params) -> dict[str, Any]:
        states, limit = chosen(OutboxState, params["state"]), bounded(params["limit"])
        session = await self.session_named(params["session"], ended=True) if params["session"] else ""
        rows = await self._app.journal.read(outbox.listed, states, session, limit)
        return {"schema": SCHEMA, "messages": [_row(row, key, row.message.text[:BEGINNING]) for row, key in rows]}

    async def outbox_show(self, params: Params) -> dict[str, Any]:
        row_id = number(params["id"])
        try:
            row = await self._app.journal.read(outbox.show, row_id)
        except UnknownRow as error:
            raise Refused(Code.NOT_FOUND, f"there is no outbox message {row_id}", "hermesctl outbox ls") from error
        key = await self._app.journal.read(outbox.session_of, row_id)
        files = [{"name": file.name, "path": file.path} for file in row.message.files]
        return {"schema": SCHEMA, "message": _row(row, key, row.message.text) | {"files": files}}

    async def outbox_retry(self, params: Params) -> dict[str, Any]:
        async def retry(row_id: int) -> str:
            try:
                row = await self._app.deliverer.retry(row_id)
            except IllegalTransition as error:
                raise Unsuitable(await self._not_retried(row_id)) from error
            marked = ", marked as a possible repetition" if row.uncertain else ""
            if row.target.platform in self._app.platforms.live:
                return f"on its way again{marked}"
            return f"waits until {row.target.platform} is up{marked}"

        return await each(params["ids"], retry)

    async def _not_retried(self, row_id: int) -> str:
        row = await self._app.journal.read(outbox.show, row_id)
        if row.state in (OutboxState.PENDING, OutboxState.SENDING):
            return f"it is {row.state.value} and will be sent by itself"
        if row.state is OutboxState.WAITING:
            return "it waits until somebody looks at its chat, and will be sent then by itself"
        return f"it was {row.state.value} already"

    async def outbox_drop(self, params: Params) -> dict[str, Any]:
        async def drop(row_id: int) -> str:
            try:
                await self._app.deliverer.drop(row_id, REASON)
            except IllegalTransition as error:
                row = await self._app.journal.read(outbox.show, row_id)
                over = row.state is not OutboxState.SENDING
                raise Unsuitable(f"it was {row.state.value} already" if over else "it is being sent") from error
            return "given up; it will not be sent"

        return await each(params["ids"], drop)


def _row(row: OutboxRow, session: str, text: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": row.state.value,
        "session": session,
        "platform": row.target.platform,
        "chat": row.target.chat_id,
        "thread": row.target.thread_id,
        "reply_to": row.target.reply_to,
        "kind": row.message.kind,
        "created_at": rfc3339(row.created_at),
        "changed_at": rfc3339(row.changed_at),
        "next_try_at": rfc3339(row.next_try_at) if row.state is OutboxState.PENDING else None,
        "attempts": row.attempts,
        "turn": row.turn or None,
        "platform_message_id": row.platform_message_id or None,
        "text": text,
        "error": row.error,
    }
