"""What may happen to messages that wait because the peer is behind: merge, drop, or pass.

One row per message type with a rule of its own; every other type waits its turn, whole and in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .messages import Answer, Delta, Finished, Interrupt, Message, Servers, Status, Stop

MERGED_TEXT: Final = 8192
"""Characters that merged deltas may reach: one frame stays a small part of what the peer handles at once."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a message behaves in the queue of a link."""

    scope: str = ""  # the field that has to be equal for `merge` and `supersedes`; "" = any two
    merge: Callable[[Any, Any], Message | None] | None = None  # of the queue's last and the new one; None = do not
    supersedes: tuple[type[Message], ...] = ()  # queued ones that need not be sent any more
    passes_window: bool = False  # goes without credit, and what is queued before it as well, so the order holds

    def covers(self, one: Message, other: Message) -> bool:
        """Whether both are in the same scope."""
        return not self.scope or getattr(one, self.scope) == getattr(other, self.scope)


def _joined(last: Delta, new: Delta) -> Delta | None:
    if len(last.text) + len(new.text) > MERGED_TEXT:
        return None
    return Delta(last.turn, last.text + new.text)


def _latest(_last: Message, new: Message) -> Message:
    return new


PLAIN: Final = Rule()

RULES: Final[Mapping[type[Message], Rule]] = {
    Delta: Rule(scope="turn", merge=_joined),
    Status: Rule(scope="turn", merge=_latest),
    Servers: Rule(merge=_latest),
    # Not its statuses and tools: that another model stood in, or that a tool failed, is not in the answer.
    Finished: Rule(scope="turn", supersedes=(Delta,), passes_window=True),
    Interrupt: Rule(passes_window=True),
    Answer: Rule(passes_window=True),
    Stop: Rule(passes_window=True),
}
