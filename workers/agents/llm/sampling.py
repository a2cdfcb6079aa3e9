"""Answers an MCP server's question to the model: one request, apart from the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hermesd.workers.agents.contract import Sample, SampleCall, SampleRequest
from hermesd.workers.errors import TurnFailed

from .endpoint import Endpoints, Refused, Request
from .settings import Model
from .stream import Assembly, Call
from .tools import BadArguments, arguments_of

OTHER_NAME = "max_completion_tokens"
"""OpenAI's newer models refuse ``max_tokens`` and name this in the error; older endpoints know the other only."""


async def answer(
    endpoints: Endpoints, models: Sequence[Model], request: SampleRequest
) -> tuple[Sample, dict[str, int]]:
    """The answer and the tokens it took. The primary is asked, and the next where it is out of reach.

    Raises `TurnFailed` with a sentence.
    """
    failed: list[str] = []
    for model in models:
        asked = replace(model, name=request.model) if request.model else model
        try:
            assembly = await _ask(endpoints, asked, request)
        except Refused as refused:
            failed.append(refused.failure.sentence)
            if not refused.failure.elsewhere:
                break
            continue
        known = [tool["function"]["name"] for tool in request.tools]
        calls = tuple(_call(call) for call in assembly.calls(known)) if known else ()
        return Sample(assembly.text, asked.name, assembly.finish, calls), assembly.usage
    raise TurnFailed("; ".join(failed))


async def _ask(endpoints: Endpoints, model: Model, request: SampleRequest) -> Assembly:
    more: dict[str, Any] = {"max_tokens": request.max_tokens}
    if request.temperature is not None:
        more["temperature"] = request.temperature
    if request.stop:
        more["stop"] = list(request.stop)
    if request.tools and request.tool_choice:
        more["tool_choice"] = request.tool_choice
    try:
        return await endpoints.answer(model, Request(request.messages, request.tools, more=more), _unseen)
    except Refused as refused:
        if OTHER_NAME not in refused.failure.sentence:
            raise
    more[OTHER_NAME] = more.pop("max_tokens")
    return await endpoints.answer(model, Request(request.messages, request.tools, more=more), _unseen)


async def _unseen(text: str) -> None:
    """It is for the server, not for the chat."""


def _call(call: Call) -> SampleCall:
    try:
        arguments = arguments_of(call.arguments)
    except BadArguments:
        arguments = {"_raw": call.arguments}  # the server asked for it and may make sense of it
    return SampleCall(call.id, call.name, arguments)
