"""The OpenAI-compatible way in: an HTTP server whose requests are messages and whose responses are their answers.

A request with ``X-Hermes-Session-Id: NAME`` is a message in the chat NAME; one without is a chat of its own that ends
with its answer. There is no sending to a client that does not wait: everything else is `Gone`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from hermesd.adapters.api_server import images
from hermesd.adapters.api_server.exchange import Answered, Delta, Exchange, Exchanges, Failed, Notice, Said
from hermesd.adapters.api_server.guard import Guard
from hermesd.adapters.api_server.openai import DO_NOT_RETRY, ApiProblem
from hermesd.adapters.api_server.options import read
from hermesd.adapters.api_server.routes import Call, Routes
from hermesd.adapters.contract import (
    AdapterSettings,
    Attachment,
    Capabilities,
    Inbound,
    Outbound,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, Gone, NotAccepted
from hermesd.adapters.hosts import authority
from hermesd.adapters.serving import port_of, serve
from hermesd.adapters.standing import Standing

USER = "api"
RETRY_AFTER = 5
STOP_SECONDS = 2.0

FREE_PORT = "set API_SERVER_PORT (platforms.api_server.extra.port) to a free port, 0 for any"


class ApiServerAdapter:
    """Platform ``api_server``. Raises `AdapterError` for settings that it refuses."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._options = read(settings)
        self._exchanges = Exchanges(self._abandoned)
        self._receiver: Receiver | None = None
        self._runner: web.AppRunner | None = None
        self._port = self._options.port
        self._standing = Standing()

    async def start(self, receiver: Receiver) -> None:
        self._standing.become("connecting")
        app = web.Application(client_max_size=self._options.max_body)
        Guard(self._options).install(app)
        Routes(self._options, self._serve).install(app)
        try:
            # A client that hangs up cancels its handler, which is how its turn gets interrupted.
            self._runner = await serve(
                app, self._options.host, self._options.port, what="serve the API", fix=FREE_PORT, stop=STOP_SECONDS
            )
        except AdapterError as error:
            self._standing.become("refused", str(error))
            raise
        self._port = port_of(self._runner)
        self._receiver = receiver
        self._standing.become("online", self._url())

    async def stop(self) -> None:
        self._receiver = None
        self._standing.become("stopped")
        self._exchanges.fail_all(_cut)
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, target: Target, message: Outbound) -> Sent:
        exchange = self._exchanges.find(_place(target), time.monotonic())
        if exchange is None or isinstance(exchange.end, Failed):
            raise Gone(f"cannot answer request {target.reply_to!r}: its client does not wait for it")
        if not message.final:
            exchange.push(Said(message))
            return Sent(message.key)
        exchange.push(Answered(message))
        if not await asyncio.shield(exchange.delivered):
            raise Gone(f"cannot answer request {target.reply_to!r}: its client has hung up")
        return Sent(message.key)

    def stream(self, target: Target, text: str) -> None:
        if exchange := self._exchanges.find(_place(target), time.monotonic()):
            exchange.push(Delta(text))

    def notice(self, target: Target, text: str) -> None:
        if exchange := self._exchanges.find(_place(target), time.monotonic()):
            exchange.push(Notice(text))

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(markdown=True)

    def state(self) -> State:
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        return {
            "url": self._url(),
            "address": f"{self._url()}/v1",  # what OpenAI's clients call base_url
            "host": self._options.host,
            "port": self._port,
            "access": "key" if self._options.key else "loopback",
            "model": self._options.model_name,
            "requests": len(self._exchanges),
        }

    def _url(self) -> str:
        return f"http://{authority(self._options.host, self._port)}"

    async def _serve(
        self, call: Call, answer: Callable[[Exchange], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Hand a request to the core, or join it to the same one before, and run ``answer`` on what comes back."""
        self._standing.alive()
        target = self._target(call)
        exchange = self._exchanges.find(target, time.monotonic())
        first = exchange is None
        if exchange is None:
            exchange = self._exchanges.open(
                target, call.fingerprint, streamed=call.request.stream, lasting=bool(call.session)
            )
        elif exchange.fingerprint != call.fingerprint:
            raise ApiProblem(422, "another request has used this Idempotency-Key", code="idempotency_key_reused")
        async with self._exchanges.attend(exchange, time.monotonic, keep=bool(call.key)):
            if first:
                await self._hand_in(call, exchange)
            else:
                await asyncio.shield(exchange.accepted)
            with self._time_limit(exchange):
                response = await answer(exchange)
            if not exchange.delivered.done():
                exchange.delivered.set_result(True)
            return response

    async def _hand_in(self, call: Call, exchange: Exchange) -> None:
        """Returns once the core has it on disk; what goes wrong is told to those who have joined, too."""
        stored: tuple[Attachment, ...] = ()
        try:
            if (receiver := self._receiver) is None:
                raise _stopping()
            urls = call.request.images if call.session else (*call.request.earlier_images, *call.request.images)
            if urls:
                stored = await asyncio.to_thread(images.store, urls, self._options.media_dir, self._options.max_image)
            exchange.handed_in = True
            if not await receiver.receive(self._inbound(call, exchange.target, stored)):
                raise _taken_before()
        except (ApiProblem, NotAccepted) as error:
            images.discard(stored)
            problem = error if isinstance(error, ApiProblem) else _not_accepted(error.reason, error.code)
            exchange.handed_in = False
            _refuse(exchange, problem)
            raise problem from error
        except BaseException:
            _refuse(exchange, _not_accepted("the request before this one was given up", "given_up"))
            raise
        exchange.accepted.set_result(None)
        if self._receiver is None:  # stopped while the core was writing it down
            exchange.push(Failed(_cut(exchange)))

    @contextmanager
    def _time_limit(self, exchange: Exchange) -> Iterator[None]:
        limit = self._options.request_timeout
        if limit is None:
            yield
            return
        problem = ApiProblem(
            504, f"no answer within {limit:g} s", kind="timeout_error", code="timeout", headers=DO_NOT_RETRY
        )
        timer = asyncio.get_running_loop().call_later(limit, exchange.push, Failed(problem))
        try:
            yield
        finally:
            timer.cancel()

    def _target(self, call: Call) -> Target:
        message_id = call.key or uuid.uuid4().hex
        name = hashlib.sha256(call.key.encode()).hexdigest()[:32] if call.key else message_id
        return Target(self.name, call.session or f"req-{name}", reply_to=message_id)

    def _inbound(self, call: Call, target: Target, attachments: tuple[Attachment, ...]) -> Inbound:
        return Inbound(
            platform=self.name,
            chat_id=target.chat_id,
            message_id=target.reply_to,
            user_id=USER,
            text=call.request.text,
            user_name=call.request.user or USER,
            attachments=attachments,
            trusted=True,
            history=None if call.session else call.request.history,
            sent_at=time.time(),
        )

    def _abandoned(self, target: Target) -> None:
        if self._receiver is not None:
            self._receiver.cancel(target)


def _place(target: Target) -> Target:
    return Target(target.platform, target.chat_id, reply_to=target.reply_to)


def _refuse(exchange: Exchange, problem: ApiProblem) -> None:
    exchange.push(Failed(problem))
    exchange.accepted.set_exception(problem)
    exchange.accepted.exception()  # marks it as seen: perhaps nobody has joined


def _taken_before() -> ApiProblem:
    why = "this request has been taken before, and its answer is not kept any more"
    return ApiProblem(409, why, code="already_taken", headers=DO_NOT_RETRY)


def _not_accepted(reason: str, code: str) -> ApiProblem:
    return ApiProblem(
        503, f"not accepted: {reason}", kind="server_error", code=code, headers={"Retry-After": str(RETRY_AFTER)}
    )


def _cut(exchange: Exchange) -> ApiProblem:
    """What a client hears whose request was accepted, and whose connection ends before the answer."""
    session = exchange.target.chat_id
    goes_on = (
        f"it goes on, and its answer will be in session {session}"
        if exchange.lasting
        else "it ends with its connection, because it belongs to no session; it may have acted already"
    )
    why = f"hermesd closes this connection; the request was accepted: {goes_on}"
    return ApiProblem(503, why, kind="server_error", code="connection_closing", headers=DO_NOT_RETRY)


def _stopping() -> ApiProblem:
    return _not_accepted("hermesd is stopping", "stopping")
