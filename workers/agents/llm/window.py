"""Keeps a request within the model's window: what is shortened, and what has to be summarised. Pure.

A token is four characters until the server's own count of a request says better. Counted are characters; no tokenizer
is used, for those that are exact have to be downloaded for each model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .conversation import Conversation, Exchange, Message

CHARACTERS = 4.0
"""Of a token, as long as nobody knows better."""

LEAST, MOST = 1.0, 5.0
"""Between which a server's count is believed: some leave out what they had in a cache, or add what they say themselves.
A
request that is full by `MOST` still fits a window of up to 32k by `CHARACTERS`, for a quarter of it is left free."""

DEFAULT_WINDOW = 128_000
"""Tokens, where the configuration names no ``context_length``."""

ANSWER_SHARE, ANSWER_MOST = 4, 8192
"""What is left free for the answer: a quarter of the window, at most so many tokens."""

OVERHEAD = 16
"""Characters that stand for what a chat template puts around each message, some four tokens."""

IMAGE = 6000
"""Characters that stand for an image: providers count from some hundred to 1,600 tokens for one."""

SHORTENED = (2000, 400, 80)
"""Characters that long tool results are cut to, one after the other, until the request fits."""

KEPT_SHARE = 0.5
"""Of the room, for what is not summarised: a summary for every single turn would double the requests."""


@dataclass(slots=True)
class Window:
    """Of one model: ``tokens`` in all, and how many ``characters`` make one."""

    tokens: int = DEFAULT_WINDOW
    characters: float = CHARACTERS

    @property
    def room(self) -> int:
        """Characters that a request may have."""
        return int((self.tokens - min(self.tokens // ANSWER_SHARE, ANSWER_MOST)) * self.characters)

    def learn(self, characters: int, tokens: int) -> None:
        """The server has counted ``tokens`` for a request of so many characters."""
        if tokens > 0 and characters > 0:
            self.characters = min(MOST, max(LEAST, characters / tokens))

    def in_tokens(self, characters: int) -> int:
        return round(characters / self.characters)


def size(message: Message) -> int:
    """Characters that a message counts."""
    content = message.get("content")
    total = OVERHEAD
    if isinstance(content, str):
        total += len(content)
    for part in content if isinstance(content, list) else ():
        total += len(part["text"]) if part["type"] == "text" else IMAGE
    for call in message.get("tool_calls", ()):
        total += OVERHEAD + len(call["function"]["name"]) + len(call["function"]["arguments"])
    return total


def size_of(messages: Iterable[Message]) -> int:
    return sum(map(size, messages))


def size_of_schemas(schemas: Sequence[dict[str, Any]]) -> int:
    return len(json.dumps(schemas, ensure_ascii=False)) if schemas else 0


def clipped(text: str, length: int) -> str:
    """Beginning and end of a text that is longer, and how much was left out between them."""
    if len(text) <= length:
        return text
    note = f"\n[… {len(text) - length} characters left out …]\n"
    head = max(0, length - len(note)) * 2 // 3
    tail = max(0, length - len(note) - head)
    return f"{text[:head]}{note}{text[len(text) - tail :]}"


def shorten(conversation: Conversation, current: list[Message], excess: int) -> int:
    """Cut tool results, the oldest first, and let images of earlier turns go, until ``excess`` characters are gone.

    The results of the running step come last. Returns how many messages were shortened; it may not be enough.
    """
    earlier = [message for exchange in conversation.exchanges for message in exchange.messages]
    begin = max((at for at, message in enumerate(current) if message["role"] == "assistant"), default=len(current))
    touched: set[int] = set()
    for group in ([*earlier, *current[:begin]], current[begin:]):
        for length in SHORTENED:
            for message in group:
                if excess <= 0:
                    return len(touched)
                gained = _cut(message, length, images=any(message is one for one in earlier))
                if gained > 0:
                    touched.add(id(message))
                    excess -= gained
    return len(touched)


def too_old(exchanges: Sequence[Exchange], room: int) -> int:
    """How many of the oldest exchanges have to go, so that the others take at most `KEPT_SHARE` of ``room``."""
    left, kept = room * KEPT_SHARE, 0
    for exchange in reversed(exchanges):
        left -= size_of(exchange.messages)
        if left < 0:
            break
        kept += 1
    return len(exchanges) - kept


def fold(current: list[Message], excess: int) -> int:
    """Put one line each in the place of the running turn's oldest steps, until ``excess`` characters are gone.

    The last step is never touched. Returns how many steps were folded.
    """
    folded = 0
    while excess > 0:
        begins = [at for at, message in enumerate(current) if message.get("tool_calls")]
        if len(begins) < 2:
            break
        first, end = begins[0], begins[1]
        names = ", ".join(call["function"]["name"] for call in current[first]["tool_calls"])
        line: Message = {"role": "assistant", "content": f"[I called {names}; the results are left out here.]"}
        gained = size_of(current[first:end]) - size(line)
        steered = [message for message in current[first:end] if message["role"] == "user"]
        current[first:end] = [line, *steered]
        excess -= gained - size_of(steered)
        folded += 1
    return folded


def _cut(message: Message, length: int, *, images: bool) -> int:
    before = size(message)
    content = message.get("content")
    if message["role"] == "tool" and isinstance(content, str) and len(content) > length:
        message["content"] = clipped(content, length)
    elif images and isinstance(content, list):
        texts = [part["text"] for part in content if part["type"] == "text"]
        message["content"] = "\n".join([*texts, f"[{len(content) - len(texts)} images, no longer shown]"])
    return before - size(message)
