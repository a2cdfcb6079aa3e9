"""Server-sent events, in the dialect of OpenAI's streaming."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold the events back
}
DONE = b"data: [DONE]\n\n"
WRITE_TIMEOUT = 30.0


def data(value: dict[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def comment(text: str) -> bytes:
    """Lines that clients skip: they show a person at the wire what is going on, and keep proxies from closing."""
    return "".join(f": {line}\n" for line in text.split("\n")).encode("utf-8", "replace") + b"\n"


async def write(response: web.StreamResponse, event: bytes) -> None:
    """Raises `ConnectionResetError` when the client is gone, or has not read for `WRITE_TIMEOUT` seconds."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.write(event)
    except TimeoutError as error:
        raise ConnectionResetError("the client does not read") from error
