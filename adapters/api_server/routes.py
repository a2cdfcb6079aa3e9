"""The endpoints: from HTTP to an exchange, and from its events to HTTP."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from hermesd.adapters.api_server import openai, sse
from hermesd.adapters.api_server.exchange import Answered, Delta, Event, Exchange, Failed, Notice, Said
from hermesd.adapters.api_server.guard import SESSION_HEADER, refusal, too_large
from hermesd.adapters.api_server.openai import DO_NOT_RETRY, ApiProblem, ChatRequest
from hermesd.adapters.api_server.options import Options
from hermesd.adapters.contract import Outbound
from hermesd.adapters.text import chat_name_problem, clean

KEEP_ALIVE = 15.0

Serve = Callable[["Call", Callable[[Exchange], Awaitable[web.StreamResponse]]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call:
    """A checked HTTP request, before the core knows of it."""

    request: ChatRequest
    session: str  # "" without the header
    key: str  # Idempotency-Key, "" without
    fingerprint: str


class Routes:
    """Handlers of all endpoints. ``serve`` (the adapter) hands a call to the core and runs the answering around it."""

    def __init__(self, options: Options, serve: Serve):
        self._options = options
        self._serve = serve
        self._created = int(time.time())

    def install(self, app: web.Application) -> None:
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{name:.+}", self.model)
        app.router.add_post("/v1/chat/completions", self.chat_completions)

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def models(self, request: web.Request) -> web.Response:
        models = [openai.model(self._options.model_name, self._created)]
        return web.json_response({"object": "list", "data": models})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name != self._options.model_name:
            raise ApiProblem(404, f"there is no model {clean(name)!r}", code="model_not_found", param="model")
        return web.json_response(openai.model(name, self._created))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        call = await self._read(request)

        async def answer(exchange: Exchange) -> web.StreamResponse:
            headers = {SESSION_HEADER: call.session} if call.session else {}
            respond = self._stream if call.request.stream else self._whole
            return await respond(request, call.request, exchange, headers)

        return await self._serve(call, answer)

    async def _read(self, request: web.Request) -> Call:
        if (request.content_length or 0) > self._options.max_body:
            raise too_large(self._options.max_body)
        body = await request.read()
        session = request.headers.get(SESSION_HEADER, "")
        if SESSION_HEADER in request.headers and (problem := chat_name_problem(session)):
            raise ApiProblem(400, f"{SESSION_HEADER} cannot name a session: {problem}", param=SESSION_HEADER)
        key = request.headers.get("Idempotency-Key", "")
        if key and (problem := chat_name_problem(key)):
            raise ApiProblem(400, f"Idempotency-Key cannot be used: {problem}", param="Idempotency-Key")
        chat = openai.parse(body, self._options.model_name)
        return Call(chat, session, key, hashlib.sha256(body).hexdigest())

    async def _whole(
        self, request: web.Request, chat: ChatRequest, exchange: Exchange, headers: dict[str, str]
    ) -> web.StreamResponse:
        said: list[str] = []
        async with aclosing(exchange.follow()) as events:
            async for event in events:
                match event:
                    case Said(message) if message.kind != "notice":
                        said.append(content(message))
                    case Answered(message):
                        response = self._answered(chat, message, said)
                        response.headers.update(headers)
                        await response.prepare(request)
                        await response.write_eof()
                        return response
                    case Failed(problem):
                        raise problem
        raise AssertionError("an exchange ended without an end")

    def _answered(self, chat: ChatRequest, message: Outbound, said: list[str]) -> web.Response:
        try:
            fail_for(message)
        except ApiProblem as problem:
            return refusal(problem)
        text = "\n\n".join(part for part in (*said, content(message)) if part)
        usage = openai.usage(chat, message, text)
        return web.json_response(openai.completion(completion_id(), int(time.time()), chat.model, text, usage))

    async def _stream(
        self, request: web.Request, chat: ChatRequest, exchange: Exchange, headers: dict[str, str]
    ) -> web.StreamResponse:
        chunks = openai.Chunks(completion_id(), int(time.time()), chat.model, chat.include_usage)
        response = web.StreamResponse(headers={**sse.HEADERS, **headers})
        await response.prepare(request)
        await sse.write(response, sse.data(chunks.role()))
        text = Text()
        try:
            async with aclosing(exchange.follow(idle=KEEP_ALIVE)) as events:
                async for event in events:
                    await self._stream_event(response, chunks, chat, text, event)
        except ApiProblem as problem:
            # The status line has gone out; clients know an error object in the stream.
            await sse.write(response, sse.data(problem.body()))
        await sse.write(response, sse.DONE)
        await response.write_eof()
        return response

    async def _stream_event(
        self, response: web.StreamResponse, chunks: openai.Chunks, chat: ChatRequest, text: Text, event: Event | None
    ) -> None:
        match event:
            case None:
                await sse.write(response, sse.comment("keep-alive"))
            case Notice(word) | Said(Outbound(kind="notice", text=word)):
                await sse.write(response, sse.comment(clean(word)))
            case Delta(more):
                await sse.write(response, sse.data(chunks.content(text.streamed(clean(more)))))
            case Said(message):
                await sse.write(response, sse.data(chunks.content(text.said(content(message)))))
            case Answered(message):
                fail_for(message)
                if rest := text.rest(content(message)):
                    await sse.write(response, sse.data(chunks.content(rest)))
                await sse.write(response, sse.data(chunks.stop()))
                if chat.include_usage:
                    usage = openai.usage(chat, message, content(message))
                    await sse.write(response, sse.data(chunks.usage(usage)))
            case Failed(problem):
                raise problem


class Text:
    """What of an answer a client has seen."""

    def __init__(self) -> None:
        self._streamed: list[str] = []  # joined at the end only: a text that grows by pieces is copied for each of them
        self._any = False
        self._apart = False

    def streamed(self, more: str) -> str:
        self._streamed.append(more)
        self._any = True
        self._apart = False
        return more

    def said(self, message: str) -> str:
        before = "\n\n" if self._any and not self._apart else ""
        self._any = self._apart = True
        return f"{before}{message}\n\n"

    def rest(self, whole: str) -> str:
        """What is missing of the whole answer; all of it when something else was streamed."""
        streamed = "".join(self._streamed)
        if whole.startswith(streamed):
            return whole[len(streamed) :]
        return whole if self._apart else f"\n\n{whole}"


def content(message: Outbound) -> str:
    """A message as text, with the files that HTTP has no place for named at its end."""
    files = "".join(f"\n[file {file.name}: {file.path}]" for file in message.files)
    return clean(message.text + files)


def fail_for(message: Outbound) -> None:
    """Raise the problem that an agent's failure is to a client."""
    if message.kind == "error":
        raise ApiProblem(500, clean(message.text) or "the agent failed", kind="agent_error", headers=DO_NOT_RETRY)


def completion_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
