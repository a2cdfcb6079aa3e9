"""The HTTP side: from a request to an event that is on disk, and what its sender is told."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from hermesd.adapters.contract import Inbound
from hermesd.adapters.errors import NotAccepted
from hermesd.adapters.hosts import host_name, means_this_machine
from hermesd.adapters.text import clean
from hermesd.adapters.webhook import signatures
from hermesd.adapters.webhook.inbound import BadEvent, delivery_id, events_of, inbound, parse_body, takes
from hermesd.adapters.webhook.options import WebhookOptions
from hermesd.adapters.webhook.rates import Rates
from hermesd.adapters.webhook.routes import RouteSpec
from hermesd.adapters.webhook.signatures import Unverified, Verified

log = logging.getLogger("hermesd.adapters.webhook")

PATH = "/webhooks/{route}"
BODY_SECONDS = 30.0
"""For a whole body; GitHub gives up after ten."""

RETRY_SOON = 5
RETRY_LATER = 60
"""Seconds after which a sender may try again: when hermesd is back, and when a person has mended something."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """An answer that is an error; ``word`` is what it counts as."""

    def __init__(self, status: int, text: str, *, word: str = "refused", retry_after: int = 0):
        super().__init__(text)
        self.status = status
        self.word = word
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}

    def response(self) -> web.Response:
        return web.json_response({"error": str(self)}, status=self.status, headers=self.headers)


@dataclass(slots=True)
class Tally:
    """What became of the requests to one route since the server is up."""

    received_at: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


class Endpoint:
    """``find`` gives a route by its name, or raises `Problem`; ``receive`` hands an event to the core; ``alive`` hears
    of each request that has proved who sent it.
    """

    def __init__(
        self,
        platform: str,
        options: WebhookOptions,
        find: Callable[[str], RouteSpec],
        receive: Callable[[Inbound], Awaitable[bool]],
        alive: Callable[[], None],
    ):
        self._platform = platform
        self._options = options
        self._find = find
        self._receive = receive
        self._alive = alive
        self._rates = Rates(options.rate_limit)
        self.tallies: dict[str, Tally] = {}

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self._options.max_body, middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_post(PATH, self._posted)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except web.HTTPException as error:
            why = f"{request.method} {clean(request.path)}: {error.reason}; events go to POST {PATH}"
            response = Problem(error.status, why).response()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("the webhook server failed on %s %s", request.method, request.path)
            response = Problem(500, "hermesd failed on this request; its log says why").response()
        response.headers["Server"] = "hermesd"
        return response

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "platform": "webhook"})

    async def _posted(self, request: web.Request) -> web.Response:
        route = self._find(request.match_info["route"])
        tally = self.tallies.setdefault(route.name, Tally())
        try:
            word, response = await self._take(request, route)
        except Problem as problem:
            tally.counts[problem.word] += 1
            raise
        tally.counts[word] += 1
        return response

    async def _take(self, request: web.Request, route: RouteSpec) -> tuple[str, web.Response]:
        headers = {name.lower(): request.headers[name] for name in request.headers}  # the first of each counts
        if not route.secret:
            self._check_origin(request)
        body = await self._body(request)
        verified = self._verify(request, headers, body, route)
        if wait := self._rates.take(route.name, time.monotonic()):
            seconds = max(1, math.ceil(wait))
            why = f"more than {self._options.rate_limit} requests in a minute: try again in {seconds} s"
            raise Problem(429, why, word="limited", retry_after=seconds)
        self.tallies[route.name].received_at = time.time()
        self._alive()
        try:
            payload = parse_body(body, request.content_type)
            events = events_of(headers, payload)
            if not takes(route, events):
                return "ignored", web.json_response({"status": "ignored", "route": route.name, "event": events[0]})
            delivery = delivery_id(headers, verified, body) or uuid.uuid4().hex
            message = inbound(self._platform, route, delivery, events, payload, time.time())
        except BadEvent as error:
            raise Problem(400, str(error), word="bad") from error
        return await self._hand_in(route, message, events[0])

    async def _hand_in(self, route: RouteSpec, message: Inbound, event: str) -> tuple[str, web.Response]:
        facts = {"route": route.name, "event": event, "delivery_id": message.message_id}
        try:
            new = await self._receive(message)
        except NotAccepted as error:
            log.warning("an event of route %s waits at its sender: %s", route.name, error.reason)
            # A wrong setting is the owner's affair, and its text names chats: the log has it.
            unknown = error.code == "undeliverable"
            reason = "its answer cannot be delivered; hermesd's log says why" if unknown else error.reason
            later = RETRY_LATER if unknown else RETRY_SOON
            raise Problem(503, f"not accepted: {reason}", word="failed", retry_after=later) from error
        if not new:
            return "duplicate", web.json_response({"status": "duplicate", **facts})
        log.info("event %s of route %s is on disk, delivery %s", event, route.name, message.message_id)
        return "accepted", web.json_response({"status": "accepted", **facts}, status=202)

    def _check_origin(self, request: web.Request) -> None:
        """A route without a secret takes events of programs of this machine, and of no web page."""
        header = request.headers.get("Host", "")
        if not means_this_machine(header, self._options.allowed_hosts):
            raise Problem(
                403,
                f"this server is not called {clean(host_name(header))!r}: use 127.0.0.1 or localhost, give the route a "
                "secret, or add the name to platforms.webhook.extra.allowed_hosts",
            )
        if "Origin" in request.headers:
            raise Problem(403, "web pages may not use a route that has no secret")

    async def _body(self, request: web.Request) -> bytes:
        limit = self._options.max_body
        try:
            if (request.content_length or 0) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
            async with asyncio.timeout(BODY_SECONDS):
                return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise Problem(413, f"the body is larger than {limit} bytes", word="bad") from error
        except TimeoutError as error:
            raise Problem(408, f"the body did not come within {BODY_SECONDS:.0f} s", word="bad") from error

    def _verify(
        self, request: web.Request, headers: Mapping[str, str], body: bytes, route: RouteSpec
    ) -> Verified | None:
        if not route.secret:
            return None
        try:
            return signatures.verify(headers, body, route.secret, time.time(), route.scheme)
        except Unverified as error:
            log.warning("a request to route %s from %s was refused: %s", route.name, request.remote, error)
            raise Problem(401, str(error)) from error
