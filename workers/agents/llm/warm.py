"""One request to nobody, made at import: in the keeper, whose memory its workers share.

The first request of a process fills caches all over the SDK (types, abstract base classes, the platform's name), and to
look at what is in them means to write reference counts into its pages. Without this every worker did so for itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

import openai

try:
    import httpx2 as http  # what the SDK speaks HTTP with from its version 3 on
except ImportError:
    import httpx as http  # type: ignore[no-redef]

from .settings import NO_KEY
from .stream import Assembly

log = logging.getLogger("hermesd.llm")

_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "t", "arguments": "{}"}}
_CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a", "tool_calls": [_CALL]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def warm() -> None:
    """Stream an answer, and be refused, through the SDK as a worker does, over no connection and with no thread."""
    try:
        _ask()
    except Exception:  # of a version that differs: it only saves memory, and a real request says what is wrong
        log.warning("cannot warm the model's client up", exc_info=True)


def _ask() -> None:
    events = f"data: {json.dumps(_CHUNK)}\n\ndata: [DONE]\n\n"
    replies = [http.Response(200, text=events, headers={"content-type": "text/event-stream"}), http.Response(400)]

    def reply(request: Any) -> Any:
        return replies.pop(0)

    client = openai.OpenAI(
        api_key=NO_KEY,
        base_url="http://127.0.0.1/v1",
        max_retries=0,
        http_client=http.Client(transport=http.MockTransport(reply)),
    )
    assembly = Assembly()
    with client:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True, extra_body={"messages": []}):
            assembly.add(chunk)
        with contextlib.suppress(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=[])
