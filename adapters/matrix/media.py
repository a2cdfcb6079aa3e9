"""Files to and from the homeserver's store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import aiohttp
from mautrix.api import Method, Path
from mautrix.client import Client
from mautrix.errors import MatrixRequestError, MForbidden, MNotFound, MUnrecognized, make_request_error

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Gone, Rejected
from hermesd.adapters.media.store import safe_name, store

from .calls import calling

CHUNK = 1 << 16
DEFAULT_LIMIT = 50 << 20
LARGEST = 100 << 20
"""Bytes; a larger file is named in the text instead, whatever the server would take."""


async def upload_limit(client: Client) -> int:
    """Bytes that the server takes. Raises mautrix' errors."""
    for path in (Path.v1.media.config, "_matrix/media/v3/config"):
        try:
            answer = await client.api.request(Method.GET, path)
        except (MUnrecognized, MNotFound):
            continue  # a server from before Matrix 1.11 has only the second
        limit = answer.get("m.upload.size")
        return min(limit, LARGEST) if isinstance(limit, int) else DEFAULT_LIMIT
    return DEFAULT_LIMIT


async def upload(client: Client, file: Attachment, *, encrypted: bool) -> Mapping[str, Any]:
    """Store a file at the server: {"url": mxc}, or {"file": ...} with the key to it. Raises the core's errors."""
    name = safe_name(file.name)
    try:
        data = await asyncio.to_thread(FilePath(file.path).read_bytes)
    except OSError as error:
        raise Rejected(f"cannot send {name}: {error.strerror}") from error
    with calling(f"upload {name}"):
        if not encrypted:
            url = await client.upload_media(_pieces(data), mime_type=file.mime, filename=file.name, size=len(data))
            return {"url": str(url)}
        from mautrix.crypto.attachments import encrypt_attachment

        secret, keys = await asyncio.to_thread(encrypt_attachment, data)
        keys.url = await client.upload_media(_pieces(secret), mime_type="application/octet-stream", size=len(secret))
        return {"file": keys.serialize()}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(data), CHUNK):
        yield data[place : place + CHUNK]


async def fetch(client: Client, file: Attachment, directory: FilePath, limit: int) -> Attachment:
    """`hermesd.adapters.contract.CanFetch.fetch`."""
    keys = json.loads(file.remote) if file.remote.startswith("{") else None
    address = str(keys["url"]) if keys else file.remote
    if file.size > limit:
        raise Rejected(f"the file has {file.size} bytes, {limit} are allowed")
    with calling(f"fetch {safe_name(file.name)}"):
        async with _open(client, address) as response:
            length = response.content_length
            if length is not None and length > limit:
                raise Rejected(f"the file has {length} bytes, {limit} are allowed")
            if keys is None:
                return await store(response.content.iter_chunked(CHUNK), file, directory, limit)
            return await store(_decrypted(response, keys, limit), file, directory, limit)


class _open:
    """The response of a download, from the authenticated place first, then from that of servers before Matrix 1.11."""

    def __init__(self, client: Client, address: str):
        server, _, media = address.removeprefix("mxc://").partition("/")
        if not address.startswith("mxc://") or not server or not media or "/" in media or ".." in (server, media):
            raise Rejected(f"cannot fetch {address[:200]}: it is no address of Matrix' store")
        self._client = client
        self._address = address
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        for authenticated in (True, False):
            # No redirect is followed: the file is at the homeserver, which we trust, or nowhere.
            response = await self._client.api.session.get(
                self._client.api.get_download_url(self._address, authenticated=authenticated),
                headers={"Authorization": f"Bearer {self._client.api.token}"},
                allow_redirects=False,
            )
            if response.status == 200:
                self._response = response
                return response
            error = await _error(response)
            if not (authenticated and isinstance(error, MUnrecognized)):
                break
        if isinstance(error, MForbidden | MNotFound) or response.status in (404, 410):
            raise Gone(f"the file is not there any more: {error}") from error
        raise error

    async def __aexit__(self, *error: object) -> None:
        if self._response is not None:
            self._response.release()


async def _error(response: aiohttp.ClientResponse) -> MatrixRequestError:
    text = (await response.content.read(4096)).decode("utf-8", "replace")
    response.release()
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    code = said.get("errcode") if isinstance(said, dict) else None
    return make_request_error(response.status, text, code, said.get("error") if code else None)


async def _decrypted(response: aiohttp.ClientResponse, keys: Mapping[str, Any], limit: int) -> AsyncIterator[bytes]:
    from mautrix.crypto.attachments import decrypt_attachment
    from mautrix.errors import DecryptionError

    data = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        data += chunk
        if len(data) > limit:
            raise Rejected(f"the file is larger than {limit} bytes")
    try:
        # The hash is of the ciphertext: nothing is decrypted that was changed on its way.
        yield decrypt_attachment(bytes(data), keys["key"]["k"], keys["hashes"]["sha256"], keys["iv"])
    except (DecryptionError, KeyError, TypeError, ValueError) as error:
        raise Rejected(f"the file cannot be decrypted: {error}") from error
