"""What an MCP server asks of its session's model, within the limits of its configuration.

The agent answers (its optional method ``sample``); here are the limits, and the translation between the messages of MCP
and those of OpenAI's chat format, which every model of an agent takes. All of it but `Sampler.answer` is pure.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hermesd.ipc.mcp import Sampling
from hermesd.workers.agents.contract import Sample, SampleRequest
from hermesd.workers.errors import TurnFailed

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
"""In which ``max_rpm`` requests may be made."""

_STOP_REASONS = {"stop": "endTurn", "length": "maxTokens", "tool_calls": "toolUse"}


class Model(Protocol):
    """Whoever has a model: the worker, for the agent of its session."""

    def can_sample(self) -> bool:
        """Whether the agent answers such questions at all; if not, servers are told that they cannot ask."""

    async def sample(self, request: SampleRequest) -> Sample:
        """Raises what the agent raises."""


class Sampler:
    """Of one server. ``clock`` gives monotonic seconds."""

    def __init__(
        self, server: str, limits: Sampling, model: Model, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._limits = limits
        self._model = model
        self._clock = clock
        self._asked: deque[float] = deque()
        self._tool_rounds = 0
        self._level = logging.getLevelNamesMapping().get(limits.log_level.upper(), logging.INFO)

    def can(self) -> bool:
        return self._model.can_sample()

    async def answer(self, params: Mapping[str, Any]) -> dict[str, Any] | str:
        """For `hermesd.workers.mcp.sdk.session`: the result on the wire, or a sentence on why there is none."""
        if not self._may_ask():
            log.warning(
                "MCP server %s asks the model more than %d times a minute", self._server, self._limits.per_minute
            )
            return f"more than {self._limits.per_minute} requests a minute (sampling.max_rpm of {self._server})"
        request = request_of(self._server, params, self._limits)
        log.log(
            self._level, "MCP server %s asks the model %s: %d messages, at most %d tokens",
            self._server, request.model or "of the session", len(request.messages), request.max_tokens,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._limits.timeout):
                sample = await self._model.sample(request)
        except TimeoutError:
            return f"the model did not answer within {self._limits.timeout:g} s"
        except TurnFailed as error:
            log.warning("MCP server %s: its question to the model failed: %s", self._server, error)
            return f"the model could not be asked: {error}"
        except Exception as error:  # anybody's agent; the server gets a sentence, and its tool call an end
            log.exception("MCP server %s: its question to the model failed", self._server)
            return f"the model could not be asked: {type(error).__name__}: {error}"
        if sample.calls and not self._may_call_tools():
            return f"more than {self._limits.tool_rounds} answers in a row that call tools (sampling.max_tool_rounds)"
        if not sample.calls:
            self._tool_rounds = 0
        log.log(
            self._level, "MCP server %s got %d characters and %d tool calls of %s",
            self._server, len(sample.text), len(sample.calls), sample.model,
        )  # fmt: skip
        return result_of(sample)

    def _may_ask(self) -> bool:
        now = self._clock()
        while self._asked and self._asked[0] <= now - WINDOW_SECONDS:
            self._asked.popleft()
        if len(self._asked) >= self._limits.per_minute:
            return False
        self._asked.append(now)
        return True

    def _may_call_tools(self) -> bool:
        self._tool_rounds += 1
        if self._tool_rounds <= self._limits.tool_rounds:
            return True
        self._tool_rounds = 0
        return False


def request_of(server: str, params: Mapping[str, Any], limits: Sampling) -> SampleRequest:
    """A server's params, as they are on the wire, for an agent."""
    system = params.get("systemPrompt")
    return SampleRequest(
        server=server,
        messages=[*([{"role": "system", "content": system}] if system else []), *_messages(params["messages"])],
        max_tokens=min(int(params["maxTokens"]), limits.max_tokens),
        model=_model(params.get("modelPreferences") or {}, limits),
        temperature=params.get("temperature"),
        stop=tuple(params.get("stopSequences") or ()),
        tools=[_tool(tool) for tool in params.get("tools") or ()],
        tool_choice=(params.get("toolChoice") or {}).get("mode") or "",
    )


def _model(preferences: Mapping[str, Any], limits: Sampling) -> str:
    """The configuration's; else the first that the server hints at and may choose; else the session's own."""
    if limits.model:
        return limits.model
    hints = (hint.get("name") for hint in preferences.get("hints") or ())
    return next((hint for hint in hints if hint in limits.allowed_models), "")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    schema = tool.get("inputSchema") or {"type": "object", "properties": {}}
    described = {"name": tool["name"], "description": tool.get("description") or "", "parameters": schema}
    return {"type": "function", "function": described}


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        blocks = content if isinstance(content, list) else [content]
        calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
        parts = [part for block in blocks if (part := _part(block)) is not None]
        made += [
            {"role": "tool", "tool_call_id": block["toolUseId"], "content": _text(block.get("content") or ())}
            for block in blocks
            if block.get("type") == "tool_result"
        ]
        if calls:
            made.append({"role": "assistant", "content": _joined(parts) or None, "tool_calls": calls})
        elif parts:
            only_text = all(part["type"] == "text" for part in parts)
            made.append({"role": message["role"], "content": _joined(parts) if only_text else parts})
    return made


def _part(block: Mapping[str, Any]) -> dict[str, Any] | None:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": block["text"]}
        case "image":
            return {"type": "image_url", "image_url": {"url": f"data:{block['mimeType']};base64,{block['data']}"}}
        case "tool_use" | "tool_result":
            return None
        case kind:
            return {"type": "text", "text": f"[{kind}: this model cannot be given it]"}


def _joined(parts: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def _text(blocks: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block.get("type") == "text")


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}


def result_of(sample: Sample) -> dict[str, Any]:
    """An agent's answer, as it is on the wire."""
    result: dict[str, Any] = {
        "role": "assistant",
        "model": sample.model or "unknown",
        "stopReason": "toolUse" if sample.calls else _STOP_REASONS.get(sample.finish, "endTurn"),
        "content": {"type": "text", "text": sample.text},
    }
    if sample.calls:
        text = [result["content"]] if sample.text else []
        result["content"] = [
            *text,
            *({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in sample.calls),
        ]
    return result
