"""Other ways to a server whose name does not lead to it: networks in which api.telegram.org is answered wrongly, or at
an address that is blocked.

An address is only ever tried when no connection could be made, so that nothing has been sent yet; the certificate must
still be for the name.
"""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from collections.abc import Sequence

import httpx

from hermesd.adapters.media.download import is_public

log = logging.getLogger("hermesd.adapters.telegram")

RESOLVERS = ("https://1.1.1.1/dns-query", "https://8.8.8.8/resolve")
"""Of Cloudflare and Google: DNS over HTTPS with answers in JSON, by addresses that need no DNS themselves."""

RESOLVE_SECONDS = 5.0
ASK_AGAIN_SECONDS = 300.0
MOST = 3
"""Addresses that are tried for one call."""

CONNECT_SECONDS = 4.0
"""For each of them: who waits has waited for the name before."""

_A_RECORD = 1
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout)


class Ways:
    """The addresses of ``host`` besides what its name says. One for all clients of an adapter.

    ``given`` are the configured ones; ``resolvers`` are asked for more, once somebody needs them.
    """

    def __init__(self, host: str, given: Sequence[str] = (), resolvers: Sequence[str] = ()):
        self.host = host
        self.chosen = ""  # the address that worked when the name did not
        self._given = tuple(given)
        self._resolvers = tuple(resolvers)
        self._found: tuple[str, ...] = ()
        self._asked_at = -ASK_AGAIN_SECONDS
        self._asking = asyncio.Lock()

    async def others(self) -> tuple[str, ...]:
        """Addresses to try, the best first. Never raises."""
        async with self._asking:
            if self._resolvers and time.monotonic() - self._asked_at >= ASK_AGAIN_SECONDS:
                self._asked_at = time.monotonic()
                self._found = await resolved(self.host, self._resolvers) or self._found
        return tuple(dict.fromkeys((*self._given, *self._found)))[:MOST]


async def resolved(host: str, resolvers: Sequence[str]) -> tuple[str, ...]:
    """What the first resolver that answers says of ``host``; nothing where none does."""
    for resolver in resolvers:
        try:
            async with httpx.AsyncClient(timeout=RESOLVE_SECONDS) as client:
                answer = await client.get(
                    resolver, params={"name": host, "type": "A"}, headers={"Accept": "application/dns-json"}
                )
            records = answer.raise_for_status().json().get("Answer") or ()
            found = [str(record["data"]) for record in records if record.get("type") == _A_RECORD]
            if public := tuple(address for address in found if is_public(address)):
                return public
        except (httpx.HTTPError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.debug("%s does not say where %s is: %s", resolver, host, error)
    return ()


class Transport(httpx.AsyncBaseTransport):
    """Connects by the name first, and by `Ways` where that cannot be."""

    def __init__(self, ways: Ways, inner: httpx.AsyncBaseTransport):
        self._ways = ways
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        ways = self._ways
        if request.url.host != ways.host:
            return await self._inner.handle_async_request(request)
        first = ways.chosen
        try:
            return await self._inner.handle_async_request(_by(request, first))
        except _NO_CONNECTION as error:
            trouble = error
        for address in (*([""] if first else []), *await ways.others()):
            if address == first:
                continue
            try:
                response = await self._inner.handle_async_request(_by(request, address))
            except _NO_CONNECTION:
                continue
            ways.chosen = address
            if address:
                log.warning("%s cannot be reached by its name (%s); it is reached at %s", ways.host, trouble, address)
            return response
        raise trouble

    async def aclose(self) -> None:
        await self._inner.aclose()


def transport(ways: Ways | None, connections: int) -> httpx.AsyncBaseTransport | None:
    """For a client of at most so many connections; None: httpx's own.

    httpx gives up the environment's proxies for a transport of somebody else's; behind a proxy, names are its affair.
    """
    proxies = urllib.request.getproxies()
    if ways is None or "https" in proxies or "all" in proxies:
        return None
    return Transport(ways, httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=connections)))


def _by(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to an address; its Host header and the name in its TLS handshake stay."""
    if not address:
        return request
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={
            **request.extensions,
            "sni_hostname": request.url.host,
            "timeout": {**request.extensions.get("timeout", {}), "connect": CONNECT_SECONDS},
        },
    )
