"""``send``: a message of the operator to a chat."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from hermesd.adapters.contract import Outbound, Target
from hermesd.adapters.text import clean
from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.journal import chats, outbox, sessions
from hermesd.supervisor.journal.errors import JournalUnavailable
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState

from .handler import Handler, Params


class SendingHandler(Handler):
    async def send(self, params: Params) -> AsyncIterator[Any]:
        target = await self._target(params)
        key = params["key"] or secrets.token_hex(8)
        message = Outbound(f"send:{key}", clean(params["text"]), kind="notice")
        now = time.time()
        try:
            row = await self._app.journal.write(outbox.add, target, message, now)
        except JournalUnavailable as error:
            raise Refused(Code.FAILED, f"the message cannot be kept: {error}", "hermesctl status") from error
        over = self._app.deliverer.watch(row)
        if row.created_at == now:  # else the same key came before, and that one is on its way
            self._app.deliverer.deliver([row])
        yield _document(row)
        await over
        parts = await self._app.journal.read(outbox.parts_of, row.id)
        # What holds it up, if anything does: it is sent when its last part is.
        yield Done(_document(next((part for part in parts if part.state is not OutboxState.SENT), parts[0])))

    async def _target(self, params: Params) -> Target:
        if params["session"]:
            if params["platform"] or params["chat"]:
                raise Refused(Code.USAGE, "a session names platform and chat already: give one or the other")
            session = await self._app.journal.read(sessions.current, params["session"])
            if session is None:
                raise Refused(Code.NOT_FOUND, f"there is no session {params['session']}", "hermesctl sessions list")
            target = Target(session.origin.platform, session.origin.chat_id, session.origin.thread_id)
            self._check_platform(target.platform)
            return target
        if not params["platform"]:
            raise Refused(Code.USAGE, "whom to send it to: give a platform and a chat, or a session")
        self._check_platform(params["platform"])
        target = Target(params["platform"], params["chat"], params["thread"])
        known = params["unseen"] or await self._app.journal.read(chats.seen, target.platform, target.chat_id)
        if not known:
            raise Refused(
                Code.NOT_FOUND,
                f"nobody has ever written from chat {target.chat_id!r} of {target.platform}",
                "hermesctl sessions list names the sessions; --unseen sends it all the same",
            )
        return target

    def _check_platform(self, name: str) -> None:
        states = self._app.platforms.states()
        if name not in states:
            known = ", ".join(sorted(states))
            raise Refused(Code.NOT_FOUND, f"there is no platform {name!r} here; there are: {known}")


def _document(row: OutboxRow) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "id": row.id,
        "platform": row.target.platform,
        "chat": row.target.chat_id,
        "state": row.state.value,
        "message_id": row.platform_message_id,
        "error": row.error,
    }
