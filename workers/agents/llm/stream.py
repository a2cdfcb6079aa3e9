"""Puts the chunks of a streamed answer together: text, tool calls, usage. Pure.

The SDK builds chunks without checking them, and servers differ: what is not there, or is of another type than
promised, is passed over here instead of raising half way through an answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call, whole. ``arguments`` as the model wrote them."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class _Partial:
    id: str
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def name(self, known: Collection[str]) -> str:
        """Some servers spread a name over deltas, others repeat the whole of it in each: what is known decides."""
        joined = "".join(self.names)
        if joined in known or not self.names:
            return joined
        return self.names[0] if self.names[0] in known or len(set(self.names)) == 1 else joined


@dataclass(slots=True)
class Assembly:
    """One answer as it comes. ``finish`` is empty until the model has said that it is done."""

    finish: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)
    _calls: list[_Partial] = field(default_factory=list)
    _at: dict[int, _Partial] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def empty(self) -> bool:
        """Nothing came that an answer could be made of."""
        return not self._calls and not any(text.strip() for text in self._texts)

    def calls(self, known: Collection[str]) -> list[Call]:
        """The tool calls in their order. ``known``: the names that were offered."""
        return [
            Call(call.id or f"call_{number}", call.name(known), "".join(call.arguments))
            for number, call in enumerate(self._calls)
        ]

    def add(self, chunk: Any) -> str:
        """Take one chunk in; returns the text that it adds to the answer."""
        self._count(getattr(chunk, "usage", None))
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list) or not choices:
            return ""
        choice = choices[0]
        if isinstance(finish := getattr(choice, "finish_reason", None), str):
            self.finish = finish
        delta = getattr(choice, "delta", None) or getattr(choice, "message", None)
        for call in getattr(delta, "tool_calls", None) or ():
            self._add_call(call)
        text = _text_of(getattr(delta, "content", None)) or _text_of(getattr(delta, "refusal", None))
        if text:
            self._texts.append(text)
        return text

    def _add_call(self, delta: Any) -> None:
        index = getattr(delta, "index", None)
        if not isinstance(index, int):
            index = len(self._calls) - 1 if self._calls else 0
        found = getattr(delta, "id", None)
        call_id = found if isinstance(found, str) else ""
        call = self._at.get(index)
        # Parallel calls that all have index 0 are told apart by their ids.
        if call is None or (call_id and call.id and call_id != call.id):
            call = self._at[index] = _Partial(call_id)
            self._calls.append(call)
        call.id = call.id or call_id
        function = getattr(delta, "function", None)
        if isinstance(name := getattr(function, "name", None), str) and name:
            call.names.append(name)
        arguments = getattr(function, "arguments", None)
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        if isinstance(arguments, str):
            call.arguments.append(arguments)

    def _count(self, usage: Any) -> None:
        """The last figures count: some servers send them with every chunk, growing."""
        for name in ("prompt_tokens", "completion_tokens"):
            count = getattr(usage, name, None)
            if isinstance(count, int) and count >= 0:
                self.usage[name] = count


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return ""
