"""The request by which a model summarises what no longer fits into its window. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .conversation import Exchange, Message
from .window import clipped, size_of

INSTRUCTION = (
    "Summarise the conversation below for yourself: you will go on with it and see only your summary. Keep every fact, "
    "name, number, date, decision, promise and open question, those of an earlier summary included; leave out "
    "greetings and repetition. Write plain sentences, nothing else."
)

HEADING = "Summary of the conversation so far:"

LENGTH = 6
"""A summary takes at most one part in so many of the room; a longer one is cut."""

LINE = 2000
"""Characters of a single message that the summariser sees at most."""


def request(summary: str, exchanges: Sequence[Exchange], room: int) -> tuple[list[Message], int]:
    """The messages of the request, and how many of the exchanges are in it: as many as fit, at least one."""
    summary = clipped(summary, max(0, room // 2))
    lines, taken = [], 0
    left = room - size_of(_around(summary, ""))
    for exchange in exchanges:
        text = transcript(exchange)
        if taken and len(text) > left:
            break
        lines.append(clipped(text, max(left, 0)))
        left -= len(lines[-1]) + 1
        taken += 1
    return _around(summary, "\n".join(lines)), taken


def instead(summary: str, exchanges: Sequence[Exchange], length: int) -> str:
    """What stands for a summary when the model gave none: the beginnings of what was said."""
    parts = [summary, *(clipped(transcript(exchange), 300) for exchange in exchanges)]
    return clipped("\n".join(part for part in parts if part), length)


def transcript(exchange: Exchange) -> str:
    """One earlier turn as the summariser reads it."""
    lines = []
    for message in exchange.messages:
        content = message.get("content")
        if isinstance(content, list):
            content = " ".join(part["text"] if part["type"] == "text" else "[an image]" for part in content)
        names = [call["function"]["name"] for call in message.get("tool_calls", ())]
        called = f" (called {', '.join(names)})" if names else ""
        who = "tool" if message["role"] == "tool" else message["role"]
        lines.append(f"{who}{called}: {clipped(content or '', LINE)}")
    return "\n".join(lines)


def _around(summary: str, conversation: str) -> list[Message]:
    before = f"{HEADING}\n{summary}\n\n" if summary else ""
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"{before}The conversation:\n{conversation}"},
    ]
