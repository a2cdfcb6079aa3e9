"""The end of questions: their buttons go, and what came of them stands in their place."""

from __future__ import annotations

from collections.abc import Mapping

from hermesd.adapters.contract import Adapter, HasButtons, capability
from hermesd.supervisor.gateway import words
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

from .asides import Asides


class Questions:
    """Owned by the deliverer."""

    def __init__(self, journal: Journal, adapters: Mapping[str, Adapter], tasks: Tasks, asides: Asides):
        self._journal = journal
        self._adapters = adapters
        self._tasks = tasks
        self._asides = asides
        self._persistence = Persistence(journal, tasks)
        self._late: dict[int, str] = {}  # ended before they were sent: outcome by row

    def over(self, turn: str, ask: str, outcome: str) -> None:
        """A question of a turn has been answered, or never will be. ``outcome`` is for its chat."""
        self._tasks.job(self._over(turn, ask, outcome), f"settle {ask}")

    def turn_over(self, turn: str) -> None:
        """Nobody waits for an answer to any of its questions."""
        self._tasks.job(self._over(turn, "", words.QUESTION_IS_OVER), f"settle the questions of {turn}")

    def sent(self, row: OutboxRow, message_id: str) -> None:
        """A message has arrived; if its question ended meanwhile, that is told now."""
        if (outcome := self._late.pop(row.id, None)) is not None:
            self._settle(row, message_id, outcome)

    async def take_up(self) -> None:
        """Settle what an earlier life, or one without the platform, could not."""
        for row in await self._journal.read(outbox.left_questions):
            await self._end(row, words.QUESTION_IS_OVER)

    async def _over(self, turn: str, ask: str, outcome: str) -> None:
        for row in await self._journal.read(outbox.open_questions, turn):
            if row.message.question is not None and ask in ("", row.message.question.ask):
                await self._end(row, outcome)

    async def _end(self, row: OutboxRow, outcome: str) -> None:
        if row.state in (OutboxState.PENDING, OutboxState.SENDING):
            # It may be sent while we look: whoever comes second settles it.
            self._late[row.id] = outcome
            row = await self._journal.read(outbox.show, row.id)
            if row.state in (OutboxState.PENDING, OutboxState.SENDING) or row.id not in self._late:
                return
            del self._late[row.id]
        if row.state is OutboxState.SENT:
            self._settle(row, row.platform_message_id, outcome)

    def _settle(self, row: OutboxRow, message_id: str, outcome: str) -> None:
        async def call(adapter: Adapter) -> None:
            if (buttons := capability(adapter, HasButtons)) is not None:
                await buttons.settle(row.target, message_id, self._text(row, outcome, adapter))

        async def over() -> None:
            await self._persistence.keep(outbox.settled, row.id)

        adapter = self._adapters.get(row.target.platform)
        if adapter is not None and (not message_id or capability(adapter, HasButtons) is None):
            self._persistence.persist(outbox.settled, row.id)
        else:
            self._asides.soon(row.target, f"settle the question of outbox row {row.id}", call, over, urgent=True)

    @staticmethod
    def _text(row: OutboxRow, outcome: str, adapter: Adapter) -> str:
        text, facts = f"{row.message.text}\n\n{outcome}", adapter.capabilities(row.target)
        return outcome if facts.max_length and facts.unit(text) > facts.max_length else text
