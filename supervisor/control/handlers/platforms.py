"""``platforms.*``: the ways in, and what a person may do to their connections."""

from __future__ import annotations

from typing import Any

from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.journal import pauses
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.platforms.connection import Connection
from hermesd.supervisor.platforms.connection_life import Event
from hermesd.supervisor.platforms.platforms import UnknownPlatform

from .handler import Handler, Params

LOCAL = "local"


def status_of(connection: Connection) -> dict[str, Any]:
    """A `hermesd.supervisor.control.shapes.PlatformStatus`."""
    state = connection.shown()
    return {
        "name": connection.name,
        "state": state.word,
        "detail": state.detail,
        "since": rfc3339(state.since) if state.since else None,
        "received_at": rfc3339(state.received_at) if state.received_at else None,
        "describe": connection.adapter.describe() if connection.adapter is not None else {},
    }


def _row(connection: Connection) -> dict[str, Any]:
    return {
        **status_of(connection),
        "fix": connection.shown().fix,
        "next_try_at": rfc3339(connection.next_try_at) if connection.next_try_at else None,
        "tries": connection.tries,
        "connects": connection.connects,
    }


class PlatformsHandler(Handler):
    async def platforms_list(self, params: Params) -> dict[str, Any]:
        rows = [_row(connection) for connection in self._app.platforms.connections.values()]
        return {"schema": SCHEMA, "platforms": rows}

    async def platforms_pause(self, params: Params) -> dict[str, Any]:
        if params["name"] == LOCAL:
            raise Refused(Code.USAGE, "local cannot be paused: it is how hermesctl talks to agents")
        return await self._order(params["name"], Event.PAUSE)

    async def platforms_resume(self, params: Params) -> dict[str, Any]:
        return await self._order(params["name"], Event.RESUME)

    async def platforms_reconnect(self, params: Params) -> dict[str, Any]:
        if params["name"] == LOCAL:
            raise Refused(Code.USAGE, "local has no connection that could be made anew")
        return await self._order(params["name"], Event.RECONNECT)

    async def _order(self, name: str, event: Event) -> dict[str, Any]:
        try:
            connection = await self._app.platforms.order(name, event)
        except UnknownPlatform as error:
            raise Refused(Code.NOT_FOUND, str(error), "hermesctl platforms list") from error
        # On disk after it is done: a reconnect is also a resume.
        await self._app.journal.write(pauses.pause if event is Event.PAUSE else pauses.resume, name)
        return {"schema": SCHEMA, "platforms": [_row(connection)]}
