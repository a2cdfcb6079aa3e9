"""The wire to a server that somebody else runs: streamable HTTP, or the older SSE, spoken by the SDK.

What the SDK makes of a failed request differs between its versions and transports: an error of the request, an end of
the whole connection, a line in a log and silence. So every exchange is watched below it, and a failure is told from
here. httpx speaks HTTP for version 1 of the SDK, httpx2, its successor with the same interface, for version 2.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import sse, streamable_http
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from hermesd.ipc import tls
from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.mcp.transport import MAX_LINE

http: Any = getattr(streamable_http, "httpx2", None) or streamable_http.httpx  # type: ignore[attr-defined]

BAD_REQUEST = 400
UNAUTHORIZED = 401
NOT_FOUND = 404
SESSION = "mcp-session-id"
MAX_TOKENS = 3  # for one request, each after the one before was refused
MAX_ERROR = 1 << 16  # bytes of an answer that are looked into for why it is an error
FAREWELL_SECONDS = 2.0  # for the end of a session; nobody waits for it longer
_KINDS = ("connect", "read", "write", "pool")

Token = Callable[[str], Awaitable[str]]
"""Gives the access token. Its argument is one that the server has refused, or ""; raises an `McpError`."""

Failed = Callable[["Fault"], None]
"""Told of an exchange that has failed, before the SDK makes something of it."""

# They log each failure with a traceback, and ids of sessions; what has failed is told from here.
for _module in (sse, streamable_http):
    _module.logger.setLevel(logging.CRITICAL)


class Fault(Exception):
    """What went wrong with an exchange, as a sentence.

    ``fatal``: whoever waits for its answer waits in vain. ``expired``: the server has forgotten our session, and has
    refused ``request``, a message of the wire, because of that.
    """

    def __init__(
        self, sentence: str, *, fatal: bool = True, expired: bool = False, request: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(sentence)
        self.fatal = fatal
        self.expired = expired
        self.request = request or {}


@asynccontextmanager
async def connection(spec: ServerSpec, *, failed: Failed, token: Token | None = None) -> AsyncIterator[tuple[Any, Any]]:
    """The session's two streams, of types that the SDK's versions do not share.

    Raises what the first exchange raises, as a group or by itself: see `reason_of`.
    """

    def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
        return _Client(spec, failed, token)

    if spec.transport == "sse":
        async with sse_client(spec.url, timeout=spec.connect_timeout, httpx_client_factory=client) as streams:
            yield streams
        return
    more: dict[str, Any] = {}
    if hasattr(streamable_http, "DEFAULT_MAX_SSE_EVENT_SIZE"):  # version 2
        more["max_sse_event_size"] = MAX_LINE
    async with client() as made, streamable_http_client(spec.url, http_client=made, **more) as streams:
        yield streams[0], streams[1]


class Bearer(http.Auth):  # type: ignore[misc]
    """Puts the token into each request, and asks for another one when the server refuses it.

    More than once, for one that lives for seconds may end on its way to a server that is slow to look at it.
    """

    def __init__(self, token: Token) -> None:
        self._token = token

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        token = ""
        for _ in range(MAX_TOKENS):
            token = await self._token(token)
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            if response.status_code != UNAUTHORIZED:
                return


class _Client(http.AsyncClient):  # type: ignore[misc]
    """Tells of every exchange that fails, whatever becomes of it above."""

    def __init__(self, spec: ServerSpec, failed: Failed, token: Token | None) -> None:
        context = tls.context(spec.tls)
        super().__init__(
            headers=spec.headers,
            verify=context if context is not None else True,
            # A stream may be silent for as long as a tool works, and an idle one for ever: `Generation.call` has the
            # time-out of a call, and the keepalive finds a server that is gone.
            timeout=http.Timeout(spec.connect_timeout, read=None),
            auth=Bearer(token) if token is not None else None,
            follow_redirects=True,  # for version 1 of the SDK; version 2 does not leave the origin by itself
            event_hooks={"response": [_stay]},
        )
        self._failed = failed
        # A server of streamable HTTP need not offer the stream beside the calls, nor take our farewell.
        self._methods = ("GET", "POST") if spec.transport == "sse" else ("POST",)

    async def send(self, request: Any, **more: Any) -> Any:
        matters = request.method in self._methods
        if request.method == "DELETE":
            request.extensions = {**request.extensions, "timeout": dict.fromkeys(_KINDS, FAREWELL_SECONDS)}
        try:
            response = await super().send(request, **more)
        except http.TransportError as error:
            if matters:
                self._failed(Fault(reason_of(error)))
            raise
        if matters and response.status_code >= 400 and _is_waited_for(request):
            self._failed(await _fault_of(request, response))
        return response


def _is_waited_for(request: Any) -> bool:
    """Not so a notification: some servers refuse those that they do not know."""
    message = _message_of(request)
    return not message or "id" in message


def _message_of(request: Any) -> dict[str, Any]:
    """What a request carries; empty where that cannot be said."""
    try:
        message = json.loads(request.content) if request.method == "POST" else {}
    except (ValueError, http.RequestNotRead):
        return {}
    return message if isinstance(message, dict) else {}


async def _fault_of(request: Any, response: Any) -> Fault:
    sentence = f"it answers {response.status_code} {response.reason_phrase}".rstrip()
    is_json = response.headers.get("content-type", "").lower().startswith("application/json")
    expired = False
    if SESSION in request.headers:
        expired = response.status_code == NOT_FOUND
        # Many servers were made after an example of the SDK's that says so with another status.
        if response.status_code == BAD_REQUEST and int(response.headers.get("content-length") or 0) < MAX_ERROR:
            expired = b"session" in (await response.aread()).lower()
    # An error of the protocol's own may come with such a status; its caller gets it.
    return Fault(sentence, fatal=not is_json and not expired, expired=expired, request=_message_of(request))


async def _stay(response: Any) -> None:
    """Headers of the configuration are for this server and no other; httpx itself drops ``Authorization`` only."""
    if not response.has_redirect_location:
        return
    here = response.request.url
    there = here.join(response.headers["location"])
    if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
        raise http.TooManyRedirects(
            f"it redirects to {there.scheme}://{there.netloc.decode()}, which is another server: "
            "use that as the url if it is the right one",
            request=response.request,
        )


def reason_of(error: BaseException) -> str:
    """The first cause inside an error of the SDK's, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, http.HTTPStatusError):
        return f"it answers {error.response.status_code} {error.response.reason_phrase}".rstrip()
    if isinstance(error, http.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, http.ConnectError):
        return f"cannot connect: {error}"
    text = str(error)
    return text if text else f"the connection broke ({type(error).__name__})"
