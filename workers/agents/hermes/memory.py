"""The messages of a conversation in hermes-agent's form, kept beside the transcript that is hermesd's.

A transcript has texts; hermes-agent's messages have tool calls and, once it has compressed them, summaries. They lie in
the session's work directory, so that a worker that hibernated loses nothing of them, and count only as far as the
transcript agrees.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hermesd.ipc.messages import Entry
from hermesd.workers.agents.llm.conversation import Conversation, Exchange

from .results import Message, new_messages

log = logging.getLogger("hermesd.hermes")

FOLDER = ".hermes"


class Memory:
    """Of one conversation. ``session_id``: hermes-agent's, which changes when it compresses."""

    def __init__(self, workdir: Path, session_id: str, history: Sequence[Entry]) -> None:
        self.session_id = session_id
        self._file = workdir / FOLDER / "conversation.json"
        self._conversation = Conversation()
        self._restore(history)

    def messages(self, history: Sequence[Entry]) -> list[Message]:
        """For a run that begins now: what the transcript says, in as many details as are known."""
        self._conversation.follow(history)
        return [dict(message) for exchange in self._conversation.exchanges for message in exchange.messages]

    def remember(self, before: Sequence[Message], text: str, messages: Sequence[Message]) -> None:
        """Keep what a run that ended well came to. Its text in the transcript is the worker's to add."""
        exchanges = self._conversation.exchanges
        if (new := new_messages(before, messages)) is not None:
            exchanges.append(Exchange([("user", text), ("assistant", None)], _plain(new)))
        else:
            entries = [entry for exchange in exchanges for entry in exchange.entries]
            exchanges[:] = [Exchange([*entries, ("user", text), ("assistant", None)], _plain(messages))]
        self._save()

    def _restore(self, history: Sequence[Entry]) -> None:
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            exchanges = [
                Exchange([(str(role), text) for role, text in one["entries"]], list(one["messages"]))
                for one in kept["exchanges"]
            ]
            session_id = str(kept["session_id"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("cannot read %s, going on with the transcript: %r", self._file, error)
            return
        self.session_id = session_id
        self._conversation.covered = 0
        self._conversation.exchanges = fitted(exchanges, len(history))

    def _save(self) -> None:
        """A full disk costs the details of earlier turns after a restart, not the answer."""
        kept = {
            "session_id": self.session_id,
            "exchanges": [{"entries": one.entries, "messages": one.messages} for one in self._conversation.exchanges],
        }
        fresh = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
                json.dump(kept, stream, ensure_ascii=False)
            fresh.replace(self._file)
        except OSError as error:
            log.warning("cannot write %s: %s", self._file, error)


def fitted(exchanges: list[Exchange], entries: int) -> list[Exchange]:
    """The exchanges as a history of so many entries has them: a long one begins later, and its first ones are one."""
    left, at = entries, len(exchanges)
    while at and len(exchanges[at - 1].entries) <= left:
        at -= 1
        left -= len(exchanges[at].entries)
    if not at:
        return exchanges
    first = Exchange([], [message for one in exchanges[:at] for message in one.messages])
    if left:
        first.entries = exchanges[at - 1].entries[-left:]
    return [first, *exchanges[at:]]


def _plain(messages: Sequence[Message]) -> list[Message]:
    """As JSON has them, for they are written down and given to the next run alike."""
    plain: list[Any] = json.loads(json.dumps(list(messages), default=str))
    return plain
