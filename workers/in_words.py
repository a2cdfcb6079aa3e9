"""What a user sent without a word, in words: a model is never given a message that is empty. Pure."""

from __future__ import annotations

from dataclasses import replace

from hermesd.workers.agents.contract import Turn


def of_files(turn: Turn) -> Turn:
    """The turn with its files named where it has no text; what comes of it is what the conversation has of them."""
    if turn.text.strip() or not turn.attachments:
        return turn
    names = ", ".join(file.name for file in turn.attachments)
    return replace(turn, text=f"[The user sent {names}, without a word.]")
