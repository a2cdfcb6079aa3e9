"""OpenAI's chat-completions vocabulary: what a request says, and how answers and errors look. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from hermesd.adapters.contract import Outbound, Utterance
from hermesd.adapters.text import clean

DO_NOT_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients repeat a request on 409 and 5xx by themselves, which would run a turn again, unless told not to."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class ApiProblem(Exception):
    """A request that is not answered, as the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. Images are data URLs, in the order of the messages."""

    text: str
    images: tuple[str, ...]  # of the last message
    history: tuple[Utterance, ...]
    earlier_images: tuple[str, ...]
    model: str
    stream: bool
    include_usage: bool
    user: str
    prompt_characters: int


def parse(body: bytes, default_model: str) -> ChatRequest:
    """Read a request's body. Raises `ApiProblem` (400) that names what is wrong and where.

    Sampling parameters and the client's own ``tools`` are accepted and have no effect: the agent has its own.
    """
    request = _json_object(body)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiProblem(400, "messages must be a list with at least one message", param="messages")
    if request.get("n") not in (None, 1):
        raise ApiProblem(400, f"n is {request['n']!r}: only one answer per request can be given", param="n")
    read = [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    role, text, images = read[-1]
    if role != "user":
        raise ApiProblem(400, f"the last message must come from the user, not from {role!r}", param="messages")
    if not text.strip() and not images:
        raise ApiProblem(400, "the last message is empty", param=f"messages[{len(read) - 1}].content")
    options = request.get("stream_options")
    return ChatRequest(
        text=text,
        images=images,
        history=tuple(Utterance(role, text) for role, text, _ in read[:-1] if text),
        earlier_images=tuple(image for _, _, found in read[:-1] for image in found),
        model=clean(_text(request, "model") or default_model),
        stream=_flag(request, "stream"),
        include_usage=isinstance(options, dict) and _flag(options, "include_usage"),
        user=clean(_text(request, "user"))[:64],
        prompt_characters=sum(len(text) for _, text, _ in read),
    )


def completion(completion_id: str, created: int, model: str, text: str, usage: dict[str, int]) -> dict[str, Any]:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


@dataclass(frozen=True, slots=True)
class Chunks:
    """Makes the chunks of one streamed answer."""

    id: str
    created: int
    model: str
    include_usage: bool

    def role(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def content(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text})

    def stop(self) -> dict[str, Any]:
        return self._chunk({}, finish_reason="stop")

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        return {**self._head(), "choices": [], "usage": usage}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        # A client that asks for usage gets the field in every chunk, null in all but the last.
        return {**self._head(), "choices": [choice], **({"usage": None} if self.include_usage else {})}

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}


def model(name: str, created: int) -> dict[str, Any]:
    """One entry of the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "hermesd"}


def usage(request: ChatRequest, message: Outbound, text: str) -> dict[str, int]:
    """Token counts: the agent's own where it knows them, else a quarter of the characters."""
    prompt = _count(message.usage, "prompt_tokens", "input_tokens")
    answer = _count(message.usage, "completion_tokens", "output_tokens")
    prompt = math.ceil(request.prompt_characters / 4) if prompt is None else prompt
    answer = math.ceil(len(text) / 4) if answer is None else answer
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
            return int(value)
    return None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except RecursionError:
        raise ApiProblem(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiProblem(400, f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(request, dict):
        raise ApiProblem(400, "the body must be a JSON object", code="invalid_json")
    return request


def _message(message: Any, where: str) -> tuple[str, str, tuple[str, ...]]:
    """(role, text, data URLs) of one message."""
    if not isinstance(message, dict):
        raise ApiProblem(400, f"{where} must be an object", param=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        raise ApiProblem(400, f"{where}.role is {role!r}: expected one of {known}", param=f"{where}.role")
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    if isinstance(content, str):
        return _ROLES[role], clean(content), ()
    if not isinstance(content, list):
        raise ApiProblem(400, f"{where}.content must be a string or a list of parts", param=f"{where}.content")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        kind, value = _part(part, f"{where}.content[{index}]")
        (images if kind == "image" else texts).append(value)
    return _ROLES[role], clean("\n".join(texts)), tuple(images)


def _part(part: Any, where: str) -> tuple[str, str]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text", "refusal"):
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise ApiProblem(400, f"{where}.text must be a string", param=where)
        return "text", text
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str) or not url.startswith("data:"):
            raise ApiProblem(
                400,
                f"{where}: an image must be sent inline as a data: URL (data:image/png;base64,...); hermesd does not "
                "fetch addresses",
                code="image_url_not_supported",
                param=where,
            )
        return "image", url
    raise ApiProblem(
        400,
        f"{where}.type is {kind!r}: expected text or image_url",
        code="content_part_not_supported",
        param=where,
    )


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ApiProblem(400, f"{key} must be a string", param=key)
    return value


def _flag(request: dict[str, Any], key: str) -> bool:
    value = request.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ApiProblem(400, f"{key} must be true or false", param=key)
    return value
