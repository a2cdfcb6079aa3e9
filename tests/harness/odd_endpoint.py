"""An endpoint that sends what it was given, byte by byte: for answers that neither of the others' servers gives."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error of HTTP."""

    status: int
    error: Mapping[str, Any]


Answer = Sequence[Any] | Refusal


class OddEndpoint:
    """``answers`` are sent one after the other: each a list of chunks, sent as server-sent events, or a refusal."""

    def __init__(self, url: str, answers: Sequence[Answer]):
        self.url = url
        self.bodies: list[dict[str, Any]] = []
        self.left = list(answers)


@contextlib.asynccontextmanager
async def odd_endpoint(*answers: Answer) -> AsyncIterator[OddEndpoint]:
    """Run one on a port of its own."""

    async def answer(request: web.Request) -> web.StreamResponse:
        made.bodies.append(await request.json())
        if isinstance(made.left[0], Refusal):
            refusal = made.left.pop(0)
            assert isinstance(refusal, Refusal)
            return web.json_response({"error": refusal.error}, status=refusal.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in cast("Sequence[Any]", made.left.pop(0)):
            text = chunk if isinstance(chunk, str) else json.dumps(chunk)
            await response.write(f"data: {text}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        made = OddEndpoint(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", answers)
        yield made
    finally:
        await runner.cleanup()


def delta(finish: str | None = None, **content: Any) -> dict[str, Any]:
    """One chunk of a streamed answer."""
    return {
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": content, "finish_reason": finish}],
    }  # fmt: skip
