"""Files in and out. Telegram gives a bot a file only by an address that holds its token, which must not be told on. A
Bot API server of one's own that runs with ``--local`` names the file's path on its disk instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx
from telegram import InputFile

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Gone, Rejected, Retry
from hermesd.adapters.media.store import safe_name, store

CHUNK = 1 << 16
DOWNLOAD_SECONDS = httpx.Timeout(30.0, connect=10.0)
FETCH_LIMIT = 20 * 1024 * 1024
"""What Telegram's own servers give to bots: core.telegram.org/bots/api#getfile."""


async def fetch(
    url: str, file: Attachment, directory: Path, limit: int, *,
    proxy: str = "", transport: httpx.AsyncBaseTransport | None = None,
) -> Attachment:  # fmt: skip
    """Store what is at ``url``, an address of the configured server's; a redirect is not followed.

    Raises `Gone`, `Rejected` or `Retry`, none of which names the address.
    """
    what = f"cannot fetch {safe_name(file.name)} from Telegram"
    try:
        async with (
            httpx.AsyncClient(
                timeout=DOWNLOAD_SECONDS, follow_redirects=False, proxy=proxy or None, transport=transport
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code == 404:
                raise Gone(f"{what}: it is not there any more")
            if response.status_code != 200:
                kind = Retry if response.status_code in (401, 429) or response.status_code >= 500 else Rejected
                raise kind(f"{what}: status {response.status_code}")
            return await store(_chunks(response), file, directory, limit)
    except httpx.HTTPError as error:
        raise Retry(f"{what}: {type(error).__name__}", after=2.0) from None  # the error's text may hold the address


async def copy(path: Path, file: Attachment, directory: Path, limit: int) -> Attachment:
    """Store a file of a Bot API server on this machine. Raises `Rejected` for what cannot be read, or `Retry`."""
    try:
        content = await asyncio.to_thread(open, path, "rb")
    except OSError as error:
        what = f"cannot fetch {safe_name(file.name)} from Telegram's server"
        raise Rejected(f"{what}: its file {path} cannot be read: {error.strerror}") from error
    with content:
        return await store(_pieces(content), file, directory, limit)


async def _pieces(content: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(content.read, CHUNK):
        yield piece


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_bytes(CHUNK):
        yield chunk


@contextlib.contextmanager
def upload(file: Attachment, limit: int, *, attach: bool = False) -> Iterator[InputFile]:
    """The file as python-telegram-bot takes it, read while it is sent; ``attach``: for an album. Raises `Rejected` for
    what cannot be sent.
    """
    name = safe_name(file.name or Path(file.path).name)
    try:
        content = open(file.path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Rejected(f"cannot send the file {name}: {error.strerror}") from error
    with content:
        size = os.fstat(content.fileno()).st_size
        if size > limit:
            raise Rejected(f"cannot send the file {name}: it has {size} bytes, Telegram takes {limit}")
        if size == 0:
            raise Rejected(f"cannot send the file {name}: it is empty")
        yield InputFile(content, filename=name, attach=attach, read_file_handle=False)
