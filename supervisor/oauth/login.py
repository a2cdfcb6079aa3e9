"""A person authorises hermesd at an MCP server: the flow of the MCP SDK, with a browser somewhere.

Runs in ``hermesctl mcp login``, not in hermesd: it needs the SDK, which is large, and a person. hermesd finds what it
has written at the next request for a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mcp.client import streamable_http
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.shared import auth
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from hermesd.ipc import tls
from hermesd.ipc.version import VERSION
from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.worker_template import tls_of

from .errors import OAuthError
from .grant import resource_of
from .store import Store

http: Any = getattr(streamable_http, "httpx2", None) or streamable_http.httpx  # type: ignore[attr-defined]

CALLBACK = "/callback"
REQUEST_SECONDS = 30.0
DONE = b"<!doctype html><title>hermesd</title><p>hermesd is authorised. You may close this window."
FAILED = b"<!doctype html><title>hermesd</title><p>hermesd was not authorised; the terminal says why."

Pasted = Callable[[], Awaitable[str]]


class LoginFailed(OAuthError):
    """The text says at which step and why."""


async def login(name: str, server: McpServer, store: Store, *, show: Callable[[str], None], pasted: Pasted) -> None:
    """Have the tokens on disk when this returns. ``show`` gets the address for the browser; ``pasted`` waits for the
    address at which the browser has ended, for who has it on another machine. Raises `LoginFailed`.
    """
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # it logs with tracebacks what it raises
    oauth = server.oauth
    async with _listening(oauth.redirect_uri, oauth.redirect_port or _registered_port(store, name)) as (port, arrived):
        redirect = oauth.redirect_uri or f"http://{oauth.redirect_host}:{port}{CALLBACK}"
        files = _Files(name, store, server, redirect)

        async def back() -> Any:
            return _code(await _first(arrived, pasted, oauth.timeout_seconds))

        async def open_it(address: str) -> None:
            show(address)

        provider = OAuthClientProvider(server.url, _client(server, redirect), files, open_it, back)
        try:
            status = await _ask(server, provider)
        except (OAuthFlowError, http.HTTPError, OSError, ValueError) as error:
            raise LoginFailed(f"MCP server {name!r} did not authorise hermesd: {error}") from error
    if not files.written:
        raise LoginFailed(f"MCP server {name!r} does not ask for authorisation: it answers {status}")
    _save_metadata(name, server, store, provider)


class _Files:
    """The SDK's storage. It sees no tokens: with some it would not ask for new ones."""

    def __init__(self, name: str, store: Store, server: McpServer, redirect: str) -> None:
        self._name = name
        self._store = store
        self._server = server
        self._redirect = redirect
        self.written = False

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        values = tokens.model_dump(mode="json", exclude_none=True)
        if tokens.expires_in is not None:
            values["expires_at"] = time.time() + tokens.expires_in
        self._store.write(self._name, "", values)
        self.written = True

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        oauth = self._server.oauth
        if oauth.client_id:
            values: dict[str, Any] = {"client_id": oauth.client_id, "redirect_uris": [self._redirect]}
            values["token_endpoint_auth_method"] = "none"
            if oauth.client_secret:
                values |= {"client_secret": oauth.client_secret, "token_endpoint_auth_method": "client_secret_post"}
            info = OAuthClientInformationFull.model_validate(values)
            await self.set_client_info(info)
            return info
        values = self._store.read(self._name, "client")
        # A registration is for the address that it was made with.
        if self._redirect not in (values.get("redirect_uris") or ()):
            return None
        try:
            return OAuthClientInformationFull.model_validate(values)
        except ValueError:
            return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._store.write(self._name, "client", client_info.model_dump(mode="json", exclude_none=True))


def _client(server: McpServer, redirect: str) -> OAuthClientMetadata:
    oauth = server.oauth
    values: dict[str, Any] = {
        "client_name": oauth.client_name,
        "redirect_uris": [redirect],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post" if oauth.client_secret else "none",
    }
    if oauth.scope:
        values["scope"] = oauth.scope
    return OAuthClientMetadata.model_validate(values)


async def _ask(server: McpServer, provider: OAuthClientProvider) -> str:
    """Any request of the protocol: the server refuses it, and the SDK does all that follows."""
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "hermesd", "version": VERSION},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    headers = {"Accept": "application/json, text/event-stream", **server.headers}
    verify = tls.context(tls_of(server))
    client = http.AsyncClient(auth=provider, timeout=REQUEST_SECONDS, verify=verify if verify is not None else True)
    async with client:
        if server.transport == "sse":
            request = client.build_request("GET", server.url, headers=headers)
        else:
            request = client.build_request("POST", server.url, json=message, headers=headers)
        response = await client.send(request, stream=True)
        await response.aclose()
    return f"{response.status_code} {response.reason_phrase}".rstrip()


def _save_metadata(name: str, server: McpServer, store: Store, provider: OAuthClientProvider) -> None:
    """Where to refresh, and for which resource: after a restart nobody would know."""
    context = provider.context
    metadata = context.oauth_metadata
    values = metadata.model_dump(mode="json", exclude_none=True) if metadata is not None else {}
    known = context.protected_resource_metadata is not None
    store.write(name, "meta", {**values, "resource": context.get_resource_url() if known else resource_of(server.url)})


def _registered_port(store: Store, name: str) -> int:
    """Of an earlier registration, which is good for that address only; 0 where there is none."""
    for uri in store.read(name, "client").get("redirect_uris") or ():
        with contextlib.suppress(ValueError):
            parts = urlsplit(str(uri))
            if parts.scheme == "http" and parts.path == CALLBACK and parts.port:
                return parts.port
    return 0


@asynccontextmanager
async def _listening(elsewhere: str, port: int) -> AsyncIterator[tuple[int, asyncio.Future[str]]]:
    """A port for the browser to come back to, and the address that it comes with."""
    arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    if elsewhere and not port:  # somebody else's address, and nothing said of how that leads here
        yield 0, arrived
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            parts = (await reader.readline()).decode("latin-1").split(" ")
            target = parts[1] if len(parts) > 1 else ""
            query = parse_qs(urlsplit(target).query)
            is_it = "code" in query or "error" in query  # a browser also asks for an icon
            body = (DONE if "code" in query else FAILED) if is_it else b""
            status = "200 OK" if is_it else "404 Not Found"
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
            if is_it and not arrived.done():
                arrived.set_result(target)
        writer.close()

    try:
        listener = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 14)
    except OSError:  # the port of an earlier registration is somebody's now: register anew with another
        listener = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 14)
    try:
        yield listener.sockets[0].getsockname()[1], arrived
    finally:
        listener.close()


async def _first(arrived: asyncio.Future[str], pasted: Pasted, seconds: float) -> str:
    pasting = asyncio.ensure_future(pasted())
    try:
        await asyncio.wait([arrived, pasting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for found in (arrived, pasting):
            if found.done():
                return found.result()
        raise LoginFailed(f"nobody came back from the browser within {seconds:g} s")
    finally:
        pasting.cancel()


def _code(address: str) -> Any:
    """What the SDK wants to know of the address that the browser came back to."""
    query = {key: values[0] for key, values in parse_qs(urlsplit(address.strip()).query).items()}
    if "code" not in query:
        said = query.get("error_description") or query.get("error") or "there is no code in its address"
        raise LoginFailed(f"the browser came back without an authorisation: {said}")
    result = getattr(auth, "AuthorizationCodeResult", None)  # version 2
    if result is None:
        return query["code"], query.get("state")
    return result(code=query["code"], state=query.get("state"), iss=query.get("iss"))
