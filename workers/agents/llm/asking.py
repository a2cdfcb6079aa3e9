"""One turn's way to an answer: the same model again, one that stands in for it, or a sentence on why there is none."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from hermesd.workers.errors import TurnFailed

from . import failures
from .endpoint import Endpoints, Refused, Request
from .images import has_images
from .settings import Model
from .stream import Assembly
from .window import Window

log = logging.getLogger("hermesd.llm")

SHRINKS = 3
"""How often a request is made smaller for an endpoint whose window is smaller than was thought."""

SMALLER = 0.7


class NoAnswer(TurnFailed):
    """The models were asked and had nothing to say."""


class Teller(Protocol):
    """The part of `hermesd.workers.agents.contract.Out` that is needed here."""

    async def status(self, text: str) -> None: ...


class Asking:
    """Of one turn. It begins with the first of ``models`` and stays with a stand-in once it needs one."""

    def __init__(self, endpoints: Endpoints, models: Sequence[Model], out: Teller) -> None:
        self._endpoints = endpoints
        self._models = models
        self._at = 0
        self._out = out
        self._failed: list[str] = []
        self._text_only: set[Model] = set()  # which have refused a request with images, for whatever reason
        self.usage: dict[str, int] = {}

    @property
    def model(self) -> Model:
        return self._models[self._at]

    @property
    def window(self) -> Window:
        return self._endpoints.known(self.model).window

    def sees(self) -> bool:
        """Whether the model is given images."""
        return self._endpoints.known(self.model).takes_images and self.model not in self._text_only

    async def answer(
        self, build: Callable[[], Awaitable[Request]], on_text: Callable[[str], Awaitable[None]]
    ) -> Assembly:
        """``build`` makes the request for `model` and `window` as they are then. Raises `TurnFailed`."""
        tries, shrinks = 0, 0
        disliked: failures.Failure | None = None  # of a request with images; its model has got the text only since
        while True:
            request = await build()
            tries += 1
            try:
                assembly = await self._endpoints.answer(self.model, request, on_text, images=self.sees())
            except Refused as refused:
                failure = refused.failure
                if not refused.shown:
                    if failure.too_long and shrinks < SHRINKS and self._shrink(failure, request):
                        shrinks += 1
                        continue
                    if failure.about_images and disliked is None and self.sees() and has_images(request.messages):
                        disliked = failure
                        self._text_only.add(self.model)
                        continue
                    if disliked is not None:
                        disliked = None
                        self._text_only.discard(self.model)
                    if await self._wait(failure, tries):
                        continue
                    if failure.elsewhere and await self._stand_in(failure):
                        tries = 0
                        continue
                kind = NoAnswer if failure.nothing else TurnFailed
                raise kind("; ".join([*self._failed, failure.sentence])) from refused
            if disliked is not None:
                self._remember_blind(disliked)
            self._count(assembly)
            return assembly

    def _count(self, assembly: Assembly) -> None:
        for name, count in assembly.usage.items():
            self.usage[name] = self.usage.get(name, 0) + count

    def _shrink(self, failure: failures.Failure, request: Request) -> bool:
        """Think less of the window: what the endpoint named, or less than what was too much for it."""
        window = self.window
        sent = window.in_tokens(request.size)
        tokens = failure.limit if 0 < failure.limit < window.tokens else int(min(sent, window.tokens) * SMALLER)
        log.warning(
            "the window of %s is smaller than %d tokens: going on with %d; set model.context_length",
            self.model.name, window.tokens, tokens,
        )  # fmt: skip
        window.tokens = tokens
        return tokens > 0

    def _remember_blind(self, failure: failures.Failure) -> None:
        """It has answered without the images. That alone proves nothing: the refusal may have been of the moment."""
        if failure.takes_no_images:
            self._endpoints.known(self.model).takes_images = False
        log.warning(
            "%s: the model %s gets the text only%s",
            failure.sentence, self.model.name, "" if failure.takes_no_images else " for the rest of this turn",
        )  # fmt: skip

    async def _wait(self, failure: failures.Failure, tries: int) -> bool:
        stand_in = self._at + 1 < len(self._models)
        seconds = failures.wait_before(failure, tries, stand_in=stand_in, chance=random.random())
        if seconds is None:
            return False
        log.warning("%s; asking again in %.1f s", failure.sentence, seconds)
        await self._out.status(f"{failure.sentence}; asking again in {seconds:.0f} s")
        await asyncio.sleep(seconds)
        return True

    async def _stand_in(self, failure: failures.Failure) -> bool:
        if self._at + 1 >= len(self._models):
            return False
        self._failed.append(failure.sentence)
        self._at += 1
        log.warning("%s; the model %s at %s stands in", failure.sentence, self.model.name, self.model.place)
        await self._out.status(f"{failure.sentence}; {self.model.name} stands in")
        return True
