"""Programs as users: an HTTP server on which GitHub, GitLab and whoever can post hand in events.

An event is a message in a session of its own. It is on disk before its sender hears 202; what its agent answers goes
through the outbox to a chat of another platform, or into the log.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import logging
import re
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hermesd.adapters.contract import (
    AdapterSettings,
    Capabilities,
    Inbound,
    Outbound,
    Receiver,
    Route,
    Sample,
    Sent,
    State,
    Subscribed,
    Target,
)
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted, Rejected, Retry
from hermesd.adapters.hosts import authority
from hermesd.adapters.serving import port_of, serve
from hermesd.adapters.standing import Standing
from hermesd.adapters.webhook import github, outbound, routes, signatures
from hermesd.adapters.webhook.endpoint import RETRY_LATER, Endpoint, Problem, Tally
from hermesd.adapters.webhook.options import WebhookOptions, read
from hermesd.adapters.webhook.routes import BadRoute, RouteSpec
from hermesd.adapters.webhook.subscriptions import FILE, Broken, Subscriptions

log = logging.getLogger("hermesd.adapters.webhook")

STOP_SECONDS = 2.0
FREE_PORT = "set WEBHOOK_PORT (platforms.webhook.extra.port) to a free port, 0 for any"
SUBSCRIBED = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Names that hermes-agent makes routes of, too."""


class WebhookAdapter:
    """Platform ``webhook``. Raises `AdapterError` for settings that it refuses."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._options: WebhookOptions = read(settings)
        self._subscriptions = Subscriptions(self._options.subscriptions, self._parse)
        self._standing = Standing()
        self._endpoint = Endpoint(self.name, self._options, self._find, self._receive, self._standing.alive)
        self._receiver: Receiver | None = None
        self._runner: web.AppRunner | None = None
        self._port = self._options.port
        self._writing = asyncio.Lock()

    async def start(self, receiver: Receiver) -> None:
        self._standing.become("connecting")
        self._subscriptions.refresh()
        self._receiver = receiver
        try:
            self._runner = await serve(
                self._endpoint.app(), self._options.host, self._options.port,
                what="take webhooks", fix=FREE_PORT, stop=STOP_SECONDS,
            )  # fmt: skip
        except AdapterError as error:
            self._receiver = None
            self._standing.become("refused", str(error), error.fix)
            raise
        self._port = port_of(self._runner)
        self._standing.become("online")
        for warning in self._warnings():
            log.warning("%s", warning)

    async def stop(self) -> None:
        self._receiver = None
        self._standing.become("stopped")
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def send(self, target: Target, message: Outbound) -> Sent:
        """What ``deliver: log`` and ``github_comment`` mean; other targets are other platforms' affair."""
        if self._receiver is None:
            raise Retry("cannot write the answer down: the webhook server is stopped")
        if target.chat_id.startswith(github.PREFIX):
            return Sent(await github.comment(target.chat_id, outbound.text(message)))
        route, colon, _ = target.chat_id.partition(":")
        if not colon:
            raise Gone(f"cannot log an answer to {route!r}: that is no event of a route")
        log.info("%s", outbound.line(target.chat_id, message))
        return Sent(message.key)

    def capabilities(self, target: Target) -> Capabilities:
        if target.chat_id.startswith(github.PREFIX):
            return Capabilities(markdown=True, max_length=github.COMMENT_LIMIT)
        return Capabilities(markdown=True, exact_resends=True)

    def state(self) -> State:
        if self._standing.word != "online":
            return self._standing.shown()
        self._subscriptions.refresh()
        problem = self._subscriptions.problem
        taken = len(self._table())
        detail = f"{self._url()}, {taken} route{'' if taken == 1 else 's'}{f'; {problem}' if problem else ''}"
        fix = f"mend {FILE}; the routes that it had before are served" if problem else ""
        self._standing.become("online", detail, fix)
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        self._subscriptions.refresh()
        return {
            "url": self._url(),
            "host": self._options.host,
            "port": self._port,
            "routes": sorted(self._table()),
            "requests": dict(sum((tally.counts for tally in self._endpoint.tallies.values()), start=Tally().counts)),
            "faults": [self._subscriptions.problem] if self._subscriptions.problem else [],
            "warnings": self._warnings(),
        }

    # What a person does with routes (`HasRoutes`).

    def routes(self) -> Sequence[Route]:
        self._subscriptions.refresh()
        return [self._shown(spec) for _, spec in sorted(self._table().items())]

    async def subscribe(self, name: str, fields: Mapping[str, Any]) -> Subscribed:
        if not SUBSCRIBED.fullmatch(name):
            raise Rejected(
                f"cannot call a route {name!r:.80}", fix="use small letters, digits, '-' and '_', 64 of them at most"
            )
        if name in self._options.routes:
            raise Rejected(f"route {name} is in config.yaml, which goes before {FILE}", fix="change it there")
        async with self._writing:
            held = self._held()
            before = held.get(name)
            written = dict(before) if isinstance(before, dict) else {}
            written |= fields
            written["secret"] = written.get("secret") or secrets.token_urlsafe(32)
            written.setdefault("description", f"made with hermesctl: {name}")
            written.setdefault("created_at", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            try:
                spec = self._parse(name, written)
            except BadRoute as error:
                raise Rejected(str(error)) from error
            if spec.problem:
                raise Rejected(f"route {name} would not be served: {spec.problem}")
            await self._write({**held, name: written})
        shown = self._shown(self._subscriptions.routes[name])
        return Subscribed(shown, created=before is None, secret=str(written["secret"]))

    async def unsubscribe(self, name: str) -> None:
        if name in self._options.routes:
            raise Rejected(f"route {name} is in config.yaml", fix="take it out there, then restart hermesd")
        async with self._writing:
            held = self._held()
            if name not in held:
                raise Rejected(f"there is no route {name!r:.80} in {FILE}", fix=_meant(name, held))
            del held[name]
            await self._write(held)

    def sample(self, name: str, event: str, payload: str) -> Sample:
        self._subscriptions.refresh()
        spec = self._table().get(name)
        if spec is None:
            raise Rejected(f"there is no route {name!r:.80}", fix=_meant(name, self._table()))
        event = event or (spec.events[0] if spec.events else "test")
        test = {"test": True, "event_type": event, "message": "Hello from hermesctl webhook test"}
        body = payload or json.dumps(test)
        named = "X-Gitlab-Event" if spec.scheme == "gitlab" else "X-GitHub-Event"
        headers = {"Content-Type": "application/json", named: event}
        if spec.secret:
            message_id = f"test-{uuid.uuid4()}"
            headers |= signatures.sign(spec.scheme, spec.secret, body.encode(), message_id, time.time())
        return Sample(f"{self._url()}/webhooks/{name}", headers, body)

    # How they are found.

    def _parse(self, name: str, written: Any) -> RouteSpec:
        options = self._options
        return routes.parse(name, written, source=FILE, secret=options.secret, on_loopback=options.on_loopback)

    def _table(self) -> dict[str, RouteSpec]:
        return {**self._subscriptions.routes, **self._options.routes}

    def _find(self, name: str) -> RouteSpec:
        self._subscriptions.refresh()
        spec = self._table().get(name)
        if spec is None:
            if self._subscriptions.problem and not self._subscriptions.ever_read:
                # It may well be in the file, which could not be read in this life of hermesd.
                raise Problem(503, "the routes cannot be read just now", retry_after=RETRY_LATER)
            raise Problem(404, f"there is no route {name!r:.80}")
        if not spec.enabled:
            raise Problem(403, f"route {name} is switched off")
        if spec.problem:
            log.error("route %s is not served: %s", name, spec.problem)
            why = f"route {name} is not served as it stands; hermesd's log says why"
            raise Problem(503, why, retry_after=RETRY_LATER)
        return spec

    async def _receive(self, message: Inbound) -> bool:
        if self._receiver is None:
            raise NotAccepted("hermesd is stopping", code="stopping")
        return await self._receiver.receive(message)

    def _held(self) -> dict[str, Any]:
        """The file as it is, for one who changes it. Raises `Rejected`."""
        if self._subscriptions.path is None:
            raise Rejected("this hermesd has no home to keep routes in")
        try:
            return self._subscriptions.read()
        except Broken as error:
            raise Rejected(str(error), fix="mend or remove the file first") from error

    async def _write(self, held: Mapping[str, Any]) -> None:
        try:
            await asyncio.to_thread(self._subscriptions.write, held)
        except OSError as error:
            raise Rejected(f"cannot write {self._subscriptions.path}: {error.strerror}") from error
        self._subscriptions.refresh()
        if self._subscriptions.problem:
            raise Rejected(self._subscriptions.problem, fix="mend the other routes in it")

    # How they are shown.

    def _url(self) -> str:
        return f"http://{authority(self._options.host, self._port)}"

    def _shown(self, spec: RouteSpec) -> Route:
        tally = self._endpoint.tallies.get(spec.name, Tally())
        checks = "" if not spec.secret else "a secret" if spec.scheme == "auto" else f"a secret ({spec.scheme})"
        return Route(
            name=spec.name,
            url=f"{self._url()}/webhooks/{spec.name}",
            source=spec.source,
            deliver=spec.delivery(self.name, f"{spec.name}:*"),
            events=spec.events,
            checks=checks,
            description=spec.description,
            problem=spec.problem if spec.enabled else "it is switched off (enabled: false)",
            received_at=tally.received_at,
            counts=dict(tally.counts),
        )

    def _warnings(self) -> list[str]:
        found: list[str] = []
        for name, spec in sorted(self._table().items()):
            found += spec.warnings
            if spec.problem:
                found.append(f"route {name} of {spec.source} is not served: {spec.problem}")
            elif spec.deliver == routes.GITHUB_COMMENT and (why := github.missing()):
                found.append(f"route {name} of {spec.source} cannot comment: {why}; {github.FIX}")
            elif not spec.secret and spec.enabled:
                found.append(f"route {name} of {spec.source} has no secret: every program of this machine may use it")
        hidden = sorted(set(self._subscriptions.routes) & set(self._options.routes))
        found += [f"route {name} is in config.yaml and in {FILE}; the former is served" for name in hidden]
        return found


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else "hermesctl webhook list names them"
