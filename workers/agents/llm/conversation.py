"""The messages of a conversation as the endpoint gets them. Pure.

What hermesd keeps of a turn is its two texts (`hermesd.ipc.messages.Entry`). The tool calls between them are kept here
for as long as the worker lives; after a restart the conversation is made of the texts again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermesd.ipc.messages import Entry

from .stream import Call

Message = dict[str, Any]

TAIL = 8
"""How many texts before the end of a summary tell where it ends, when a new worker reads the conversation."""

NO_TEXT = "[a message without text]"
"""In the place of a text that is empty: several providers refuse each request that has such a message."""


@dataclass(slots=True)
class Exchange:
    """One earlier turn: ``entries`` of the history, and the messages that came of it. None: a text not known yet."""

    entries: list[tuple[str, str | None]]
    messages: list[Message]


@dataclass(slots=True)
class Conversation:
    """``summary`` stands for the first ``covered`` entries of the history; ``tail`` are the last texts of these."""

    summary: str = ""
    covered: int = 0
    tail: list[tuple[str, str]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def restore(self, summary: str, tail: Sequence[tuple[str, str]], history: Sequence[Entry]) -> None:
        """Take up a summary of an earlier worker, if the texts that it ended with are in the history."""
        texts = [(entry.role, entry.text) for entry in history]
        wanted = list(tail)
        for end in range(len(texts), 0, -1):
            found = texts[max(0, end - len(wanted)) : end]
            if found and found == wanted[-len(found) :] and (len(found) == len(wanted) or end == len(found)):
                self.summary, self.covered, self.tail = summary, end, wanted
                return

    def follow(self, history: Sequence[Entry]) -> None:
        """Become what the history says: it has grown by a turn, or was cut at its end because one is run again."""
        if len(history) < self.covered:
            # What was summarised is taken back: only the history itself can tell without it.
            self.summary, self.covered, self.tail, self.exchanges = "", 0, [], []
        at, kept = self.covered, []
        for exchange in self.exchanges:
            entries = history[at : at + len(exchange.entries)]
            if len(entries) < len(exchange.entries) or not all(map(_same, exchange.entries, entries)):
                break
            exchange.entries = [(entry.role, entry.text) for entry in entries]
            kept.append(exchange)
            at += len(entries)
        self.exchanges = kept
        for entry in history[at:]:
            if entry.role == "user" or not self.exchanges:
                self.exchanges.append(Exchange([], []))
            self.exchanges[-1].entries.append((entry.role, entry.text))
            self.exchanges[-1].messages.append({"role": entry.role, "content": entry.text or NO_TEXT})

    def remember(self, text: str, messages: list[Message]) -> None:
        """Keep the messages of a turn that ends; the next `follow` drops them if the history did not take it up."""
        self.exchanges.append(Exchange([("user", text), ("assistant", None)], messages))

    def snapshot(self) -> bytes:
        """The exchanges with all their messages, for `take` in another process."""
        told = [{"entries": exchange.entries, "messages": exchange.messages} for exchange in self.exchanges]
        return json.dumps({"covered": self.covered, "exchanges": told}).encode()

    def take(self, snapshot: bytes) -> None:
        """Take up what `snapshot` gave; the next `follow` drops of it what the history does not have. It is of use
        with the same summary only. Raises ValueError, LookupError, TypeError for what is no snapshot.
        """
        told = json.loads(snapshot)
        if told["covered"] != self.covered:
            return
        self.exchanges = [
            Exchange([(role, text) for role, text in one["entries"]], list(one["messages"]))
            for one in told["exchanges"]
        ]

    def summarise(self, count: int, summary: str) -> None:
        """Put ``summary`` in the place of what there was of one, and of the first ``count`` exchanges."""
        gone, self.exchanges = self.exchanges[:count], self.exchanges[count:]
        texts = [(role, text or "") for exchange in gone for role, text in exchange.entries]
        self.covered += len(texts)
        self.tail = [*self.tail, *texts][-TAIL:]
        self.summary = summary


def answer(text: str, calls: Iterable[Call], valid: Iterable[bool]) -> Message:
    """The model's own message. Arguments that are no JSON are left out: several servers refuse a request with them."""
    message: Message = {"role": "assistant", "content": text or None}
    made = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": (call.arguments or "{}") if good else "{}"},
        }
        for call, good in zip(calls, valid, strict=True)
    ]
    if made:
        message["tool_calls"] = made
    return message


def result(call_id: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def unanswered(messages: Sequence[Message]) -> list[Call]:
    """The tool calls of the last step that have no result, in their order."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at]["role"] == "assistant":
            have = {message.get("tool_call_id") for message in messages[at + 1 :]}
            calls = messages[at].get("tool_calls", ())
            return [
                Call(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in calls
                if call["id"] not in have
            ]
    return []


def in_order(messages: Sequence[Message]) -> list[Message]:
    """The same with the results of each step in the order of its calls, as they were before they ran side by side."""
    ordered: list[Message] = []
    places: dict[str, int] = {}
    begin = 0
    for message in messages:
        if message["role"] == "tool":
            ordered.append(message)
            ordered[begin:] = sorted(ordered[begin:], key=lambda one: places.get(one["tool_call_id"], len(places)))
            continue
        ordered.append(message)
        begin = len(ordered)
        places = {call["id"]: number for number, call in enumerate(message.get("tool_calls", ()))}
    return ordered


def _same(known: tuple[str, str | None], entry: Entry) -> bool:
    role, text = known
    return role == entry.role and text in (None, entry.text)
