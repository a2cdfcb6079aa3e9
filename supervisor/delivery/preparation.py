"""From a message as somebody said it to the parts that its platform takes: the one place where that is decided.

It happens when a message is the next of its chat and its platform is there, so that one that was written while the
platform was down is cut by what the platform is like when it is up. The parts are on disk before the first is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hermesd.adapters.contract import Adapter, CanEdit, CanStream, Capabilities, HasButtons, Outbound, capability
from hermesd.adapters.media.download import AddressJudge, is_public
from hermesd.supervisor.gateway import words
from hermesd.supervisor.journal import Journal, turns
from hermesd.supervisor.journal.rows import OutboxRow

from . import directives, files
from .parts import Part, parts_of
from .progress import layout
from .settings import DeliverySettings
from .streams import Streams

FROM_AGENTS = ("answer", "extra")
"""Kinds of messages whose text may hold directives."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """``stale``: ids of messages that are of no use any more."""

    parts: tuple[Part, ...]
    stale: tuple[str, ...] = ()
    ends: str = ""  # the turn whose progress these parts take over
    uncertain: bool = False  # a beginning of it may be there under an id that nobody knows


class Preparation:
    """Owned by the deliverer. ``may``: which addresses pictures are fetched from."""

    def __init__(
        self,
        journal: Journal,
        streams: Streams,
        settings: DeliverySettings,
        *,
        may: AddressJudge = is_public,
    ):
        self._journal = journal
        self._streams = streams
        self.settings = settings
        self._may = may

    async def prepare(self, row: OutboxRow, adapter: Adapter) -> Prepared:
        """Everything that its sending needs. May take as long as the fetching of its pictures."""
        message = row.message
        if message.question is not None and capability(adapter, HasButtons) is None:
            message = replace(message, text=words.question(message.text, message.question.choices))
        if capability(adapter, CanStream) is not None:
            return Prepared((Part(message),))  # shows everything whole, in its own way
        facts = adapter.capabilities(row.target)
        mode = self.settings.reply_to_mode.get(row.target.platform, "first")
        if message.kind in FROM_AGENTS:
            message = await self._with_files(row, message, facts)
        if not row.turn or message.key != answer_key(row.turn) or capability(adapter, CanEdit) is None:
            if row.turn:
                await self._streams.still(row.turn)
            return Prepared(parts_of(message, facts, reply_to_mode=mode).parts)
        state = await self._streams.finish(row.turn, row.target)
        if state is None:
            return Prepared(parts_of(message, facts, reply_to_mode=mode).parts)
        laid = layout(message.text, state, error=message.kind == "error")
        made = parts_of(message, facts, reply_to_mode=mode, pieces=laid.pieces, above=laid.above, begun=laid.begun)
        return Prepared(made.parts, (*made.surplus, *laid.stale), row.turn, laid.uncertain)

    async def _with_files(self, row: OutboxRow, message: Outbound, facts: Capabilities) -> Outbound:
        """With the files that its text asks for; what must not leave this machine is named instead."""
        reply = directives.read(message.text, images=facts.max_file_bytes > 0)
        if not reply.wanted and not message.files:
            return replace(message, text=reply.text)
        session, places = await self._session(row), self.settings.places
        named = await files.admitted("", message.files, places, session, reply)
        gathered = await files.gather(reply, places, session, facts.max_file_bytes, may=self._may)
        found = [*named.files, *(file for file in gathered.files if file.path not in {one.path for one in named.files})]
        text = "\n".join(filter(None, [gathered.text, named.text]))
        return replace(message, text=text, files=tuple(found))

    async def _session(self, row: OutboxRow) -> str:
        """The id of the session that says this, "" where there is none."""
        turn = await self._journal.read(turns.find, row.turn) if row.turn else None
        return turn.session_id if turn is not None else ""


def answer_key(turn: str) -> str:
    """The key of the message that ends a turn."""
    return f"{turn}:answer"
