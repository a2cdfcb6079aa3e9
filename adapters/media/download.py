"""Fetches a file from an address that came with a message: only from the public internet, at every redirect.

The check is made on the address that is connected to, not on the name before it: a name may say one thing to the check
and another to the connection (DNS rebinding).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Gone, Rejected, Retry

from .store import store

REDIRECTS = 5
TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=30)
CHUNK = 1 << 16

AddressJudge = Callable[[str], bool]
"""Whether an IP address may be connected to."""


def is_public(address: str) -> bool:
    """False for what is no ordinary address of the internet: this machine, its network, its cloud's metadata."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class _GuardedResolver(AbstractResolver):
    """Resolves names, and knows only addresses that may be connected to."""

    def __init__(self, may: AddressJudge):
        self._may = may
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._may(result["host"])]
        if not allowed:
            raise _Forbidden(errno.EACCES, f"{host} is an address of a private network")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class _Forbidden(OSError):
    pass


async def download(
    url: str, file: Attachment, directory: Path, limit: int, *, may: AddressJudge = is_public, proxy: str = ""
) -> Attachment:
    """Fetch ``url`` into ``directory`` as `hermesd.adapters.media.store.store` does.

    An HTTP ``proxy`` is for addresses that a platform itself gives: it resolves their names, so that only those written
    as numbers can be judged here.

    Raises `Rejected` for an address that may not be fetched and what is larger than ``limit`` or not what it says,
    `Gone` for what is not there, `Retry` for what may pass.
    """
    resolver = None if proxy else _GuardedResolver(may)
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, trust_env=False) as session,
            await _open(session, _checked(url, may), may, proxy) as response,
        ):
            if (length := response.content_length) is not None and length > limit:
                raise Rejected(f"the file has {length} bytes, {limit} are allowed")
            return await store(_chunks(response), file, directory, limit)
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _Forbidden):
            raise Rejected(f"cannot fetch {shown(url)}: {error.os_error.strerror}") from error
        raise Retry(f"cannot fetch {shown(url)}: {error}", after=2.0) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Retry(f"cannot fetch {shown(url)}: {type(error).__name__} {error}", after=2.0) from error


async def _open(session: aiohttp.ClientSession, url: URL, may: AddressJudge, proxy: str) -> aiohttp.ClientResponse:
    for _ in range(REDIRECTS + 1):
        response = await session.get(url, allow_redirects=False, proxy=proxy or None)
        if response.status in (301, 302, 303, 307, 308) and (location := response.headers.get("Location")):
            response.release()
            url = _checked(str(url.join(URL(location))), may)
            continue
        if response.status == 200:
            return response
        response.release()
        _refuse(response)
    raise Rejected(f"cannot fetch {shown(str(url))}: more than {REDIRECTS} redirects")


def _refuse(response: aiohttp.ClientResponse) -> None:
    said = f"cannot fetch {shown(str(response.url))}: status {response.status}"
    if response.status in (404, 410):
        raise Gone(said)
    if response.status == 429 or response.status >= 500:
        raise Retry(said, after=2.0)
    raise Rejected(said)


def _checked(url: str, may: AddressJudge) -> URL:
    """The address, if its scheme and, where it is a literal one, its host may be used."""
    try:
        parsed = URL(url)
    except ValueError as error:
        raise Rejected(f"cannot fetch {shown(url)}: it is no URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Rejected(f"cannot fetch {shown(url)}: only http and https are fetched")
    try:
        ipaddress.ip_address(parsed.host)
    except ValueError:
        return parsed  # a name: the resolver judges what it stands for
    if not may(parsed.host):
        raise Rejected(f"cannot fetch {shown(url)}: {parsed.host} is an address of a private network")
    return parsed


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in response.content.iter_chunked(CHUNK):
        yield chunk


def shown(url: str) -> str:
    """The URL without what may be a secret: user, password, query."""
    try:
        parsed = URL(url)
        return str(parsed.with_query(None).with_user(None).with_fragment(None))[:200]
    except ValueError:
        return "an unreadable URL"
