"""The OpenAI SDK, and what is known of each model that was asked: one streamed request at a time."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import openai

from . import failures
from .conversation import Message
from .failures import Cut, Failure, Nothing
from .images import without_images
from .settings import NO_KEY, Model
from .stream import Assembly
from .warm import warm
from .window import DEFAULT_WINDOW, Window, size_of, size_of_schemas

try:
    import httpx2 as http  # what the SDK speaks HTTP with from its version 3 on
except ImportError:
    import httpx as http  # type: ignore[no-redef]

CONNECT_SECONDS = 15.0
READ_SECONDS = 600.0
"""Between two pieces of an answer; a model on one's own machine may read a long prompt for minutes."""

_TLS = http.create_ssl_context()
"""For every client. To read the certificates takes 30 ms and 10 MiB; made here it is the keeper's, shared by its
workers, and so are the modules below, which the SDK imports when they are first used."""

openai.AsyncOpenAI(api_key=NO_KEY, base_url="http://127.0.0.1/v1").chat.completions  # noqa: B018
for _module in ("anyio._backends._asyncio", "concurrent.futures.thread", "h11", "jiter"):
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)
warm()


class Refused(Exception):
    """A request has failed. ``shown``: some of its answer has reached the chat, so that it cannot be asked again."""

    def __init__(self, failure: Failure, *, shown: bool) -> None:
        super().__init__(failure.sentence)
        self.failure = failure
        self.shown = shown


@dataclass(slots=True)
class Request:
    """``messages`` with images; they are left out for a model that is known to take none. ``more``: fields besides."""

    messages: list[Message]
    schemas: list[dict[str, Any]] = field(default_factory=list)
    effort: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return size_of(self.messages) + size_of_schemas(self.schemas)


@dataclass(slots=True)
class Known:
    """What a worker has learned of a model."""

    window: Window
    takes_images: bool = True


class Endpoints:
    """The clients of one worker, made when they are needed, and what its models have taught it."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], openai.AsyncOpenAI] = {}
        self._known: dict[tuple[str, str, int], Known] = {}

    def known(self, model: Model) -> Known:
        key = (model.base_url, model.name, model.context_length)
        if key not in self._known:
            self._known[key] = Known(Window(model.context_length or DEFAULT_WINDOW))
        return self._known[key]

    async def answer(
        self, model: Model, request: Request, on_text: Callable[[str], Awaitable[None]], *, images: bool = True
    ) -> Assembly:
        """One whole answer; its text goes to ``on_text`` as it comes. Raises `Refused`.

        ``images``: whether it is shown those of the request, if it is not known to take none.
        """
        known = self.known(model)
        messages = request.messages if known.takes_images and images else without_images(request.messages)
        body: dict[str, Any] = {"model": model.name, "messages": messages, **request.more}
        if request.schemas:
            body["tools"] = request.schemas
        if request.effort:
            body["reasoning_effort"] = request.effort
        assembly, shown = Assembly(), False
        try:
            async with _stream(self._client(model), body) as chunks:
                async for chunk in chunks:
                    if text := assembly.add(chunk):
                        shown = True
                        await on_text(text)
            if not assembly.finish:
                # The SDK takes a body that ends early for one that ends: without a word of its model it is not whole.
                raise Nothing if assembly.empty else Cut
            if assembly.empty:
                raise Nothing
        except Exception as error:  # the SDK lets those of its transport and of json through, besides its own
            raise Refused(failures.failure_of(error, model, begun=shown), shown=shown) from error
        if prompt := assembly.usage.get("prompt_tokens"):
            known.window.learn(request.size, prompt)
        return assembly

    async def keep(self, models: Iterable[Model]) -> None:
        """Close the connections to endpoints, and with keys, that are none of these any more."""
        wanted = {(model.base_url, model.api_key) for model in models}
        for key in [key for key in self._clients if key not in wanted]:
            await self._clients.pop(key).close()

    def _client(self, model: Model) -> openai.AsyncOpenAI:
        key = (model.base_url, model.api_key)
        if key not in self._clients:
            self._clients[key] = openai.AsyncOpenAI(
                base_url=model.base_url,
                api_key=model.api_key,
                max_retries=0,  # what is tried again, and where, is decided in `failures`
                timeout=openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                http_client=openai.DefaultAsyncHttpxClient(verify=_TLS),
            )
        return self._clients[key]


@contextlib.asynccontextmanager
async def _stream(client: openai.AsyncOpenAI, body: dict[str, Any]) -> AsyncIterator[Any]:
    # The SDK compares every value of its parameters with their types (openai/_utils/_transform.py): 120 ms of CPU, in
    # one piece, for 600 messages. What is in `extra_body` goes out as it is, in the place of a parameter of its name.
    stream = await client.chat.completions.create(
        model=body["model"], messages=[], stream=True, stream_options={"include_usage": True}, extra_body=body
    )
    try:
        yield stream
    finally:
        # Also when the turn is interrupted: what the model would still say is paid for.
        await stream.close()
