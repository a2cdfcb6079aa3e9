"""``inbox``: the messages of users, and what an operator does with those that were not answered."""

from __future__ import annotations

from typing import Any

from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.inbox_orders import InboxOrders
from hermesd.supervisor.journal import inbox
from hermesd.supervisor.journal.errors import UnknownRow
from hermesd.supervisor.journal.rows import InboxRow
from hermesd.supervisor.journal.states import InboxState
from hermesd.supervisor.logs import rfc3339

from .handler import Handler, Params
from .rows import BEGINNING, bounded, chosen, each, number


class InboxHandler(Handler):
    async def inbox_list(self, params: Params) -> dict[str, Any]:
        states, limit = chosen(InboxState, params["state"]), bounded(params["limit"])
        session = await self.session_named(params["session"], ended=True) if params["session"] else ""
        rows = await self._app.journal.read(inbox.listed, states, session, limit)
        return {"schema": SCHEMA, "messages": [_row(row, row.inbound.text[:BEGINNING]) for row in rows]}

    async def inbox_show(self, params: Params) -> dict[str, Any]:
        row_id = number(params["id"])
        try:
            row = await self._app.journal.read(inbox.show, row_id)
        except UnknownRow as error:
            raise Refused(Code.NOT_FOUND, f"there is no inbox message {row_id}", "hermesctl inbox ls") from error
        files = [{"name": file.name, "path": file.path} for file in row.inbound.attachments]
        return {"schema": SCHEMA, "message": _row(row, row.inbound.text) | {"files": files}}

    async def inbox_retry(self, params: Params) -> dict[str, Any]:
        async def retry(row_id: int) -> str:
            return f"queued again for {await self._orders().retry(row_id)}"

        return await each(params["ids"], retry)

    async def inbox_drop(self, params: Params) -> dict[str, Any]:
        async def drop(row_id: int) -> str:
            await self._orders().drop(row_id)
            return "set aside; its chat is not told"

        return await each(params["ids"], drop)

    def _orders(self) -> InboxOrders:
        return InboxOrders(self._app.journal, self._app.lanes, self._app.reception.key_of)


def _row(row: InboxRow, text: str) -> dict[str, Any]:
    inbound = row.inbound
    return {
        "id": row.id,
        "state": row.state.value,
        "session": row.session_key,
        "platform": inbound.platform,
        "chat": inbound.chat_id,
        "thread": inbound.thread_id,
        "message_id": inbound.message_id,
        "user": inbound.user_name or inbound.user_id,
        "received_at": rfc3339(row.received_at),
        "changed_at": rfc3339(row.changed_at),
        "turn": row.turn or None,
        "worker": row.worker or None,
        "attempts": row.attempt,
        "killed": row.killed,
        "text": text,
        "error": row.error,
    }
