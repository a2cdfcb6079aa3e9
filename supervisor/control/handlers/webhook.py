"""``webhook.*``: the routes on which programs hand in events."""

from __future__ import annotations

import json
from typing import Any

from hermesd.adapters.contract import HasRoutes, Route, capability
from hermesd.adapters.errors import Rejected
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.logs import rfc3339

from .handler import Handler, Params

WEBHOOK = "webhook"

FIX = "WEBHOOK_ENABLED=true in .env (platforms.webhook.enabled), then hermesctl restart --supervisor"


class WebhookHandler(Handler):
    async def webhook_list(self, params: Params) -> dict[str, Any]:
        routes = self._routes()
        faults = self._app.platforms.live[WEBHOOK].describe().get("faults", [])
        return {"schema": SCHEMA, "routes": [self._row(route) for route in routes.routes()], "faults": list(faults)}

    async def webhook_subscribe(self, params: Params) -> dict[str, Any]:
        routes = self._routes()
        try:
            fields = json.loads(params["fields"])
        except ValueError as error:
            raise Refused(Code.USAGE, f"the route is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise Refused(Code.USAGE, "the route is not a JSON object")
        try:
            made = await routes.subscribe(params["name"], fields)
        except Rejected as error:
            raise _refused(error) from error
        return {"schema": SCHEMA, "created": made.created, "secret": made.secret, "route": self._row(made.route)}

    async def webhook_remove(self, params: Params) -> dict[str, Any]:
        try:
            await self._routes().unsubscribe(params["name"])
        except Rejected as error:
            raise _refused(error) from error
        return {"schema": SCHEMA, "removed": params["name"]}

    async def webhook_sample(self, params: Params) -> dict[str, Any]:
        try:
            sample = self._routes().sample(params["name"], params["event"], params["payload"])
        except Rejected as error:
            raise _refused(error) from error
        return {"schema": SCHEMA, "url": sample.url, "headers": dict(sample.headers), "body": sample.body}

    def _routes(self) -> HasRoutes:
        routes = capability(self._app.platforms.live.get(WEBHOOK), HasRoutes)
        if routes is not None:
            return routes
        connection = self._app.platforms.connections.get(WEBHOOK)
        if connection is None:
            raise Refused(Code.NOT_FOUND, "platform webhook is not enabled", FIX)
        state = connection.shown()
        raise Refused(Code.FAILED, f"platform webhook is {state.word}: {state.detail}", state.fix)

    def _row(self, route: Route) -> dict[str, Any]:
        target = route.deliver.target
        problem = route.problem or self._app.reception.undeliverable(target)
        return {
            "name": route.name,
            "url": route.url,
            "source": route.source,
            "events": list(route.events),
            "platform": target.platform,
            "chat": target.chat_id,
            "thread": target.thread_id,
            "deliver_only": route.deliver.verbatim,
            "checks": route.checks,
            "description": route.description,
            "problem": problem,
            "received_at": rfc3339(route.received_at) if route.received_at else None,
            "counts": dict(route.counts),
        }


def _refused(error: Rejected) -> Refused:
    return Refused(Code.FAILED, str(error), error.fix)
