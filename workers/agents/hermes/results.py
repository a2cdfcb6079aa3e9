"""What ``run_conversation`` returned, read. Pure.

Its keys differ by version and by how the run ended; early ends have only some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

USAGE = {"prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens"}


@dataclass(frozen=True, slots=True)
class Result:
    """``failure``: a sentence, "" for a run that has an answer. ``messages``: the whole conversation, [] if unknown."""

    text: str = ""
    failure: str = ""
    interrupted: bool = False
    messages: Sequence[Message] = field(default=())
    pending: str = ""  # a text of `steer` that came too late for this run
    totals: Mapping[str, int] = field(default_factory=dict)  # tokens of the agent's life so far


def read(found: Any) -> Result:
    """Read what a run returned."""
    if not isinstance(found, Mapping):
        return Result(failure="hermes-agent returned no result")
    text = str(found.get("final_response") or "").strip()
    error = str(found.get("error") or "").strip()
    messages = [one for one in found.get("messages") or () if isinstance(one, dict)]
    totals = {ours: int(found[theirs]) for ours, theirs in USAGE.items() if _is_count(found.get(theirs))}
    common: dict[str, Any] = {"messages": messages, "totals": totals, "pending": str(found.get("pending_steer") or "")}
    if found.get("interrupted"):
        return Result(text, interrupted=True, **common)
    if found.get("failed"):
        return Result(failure=f"the model failed: {error or text or 'no reason was given'}", **common)
    if found.get("partial"):
        reason = error or "no reason was given"
        if not text or text == error:
            return Result(failure=f"the run was given up: {reason}", **common)
        return Result(f"{text}\n\n[The answer ends here: {reason}]", **common)
    if not text:
        return Result(failure=f"the model gave no answer{f': {error}' if error else ''}", **common)
    return Result(text, **common)


def spent(totals: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Tokens of one run: hermes-agent counts those of its whole life, anew in each new agent."""
    return {name: count - before.get(name, 0) for name, count in totals.items() if count > before.get(name, 0)}


def new_messages(history: Sequence[Message], messages: Sequence[Message]) -> list[Message] | None:
    """What a run has added; None where it has put a summary in the place of what was there before."""
    if len(messages) <= len(history):
        return None
    for ours, theirs in zip(history, messages, strict=False):
        if ours.get("role") != theirs.get("role") or ours.get("content") != theirs.get("content"):
            return None
    return list(messages[len(history) :])


def so_far(history: Sequence[Message], text: str, result: Result) -> list[Message]:
    """The conversation after a run, for one that follows it in the same turn."""
    if result.messages:
        return [dict(one) for one in result.messages]
    return [*history, {"role": "user", "content": text}, {"role": "assistant", "content": result.text}]


def rest_of(said: str, last: str, answer: str) -> str | None:
    """The whole answer: what was streamed (``said``, of which ``last`` since the last tool) made complete; None: it is.

    What was streamed is what the chat has seen; the answer may be another, as where it was cleaned of tags.
    """
    if last.strip() == answer.strip():
        return None
    before = said[: len(said) - len(last)].rstrip()
    return f"{before}\n\n{answer}" if before else answer


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
