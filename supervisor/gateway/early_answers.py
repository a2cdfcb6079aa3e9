"""Answers to agents' questions, also to those of a turn that was taken over and whose worker has not spoken yet.

Its user was asked by the hermesd before, and may answer this one at once. Which questions are open only the worker
knows, which may be silent for long: the answer is written down as what its user has decided, and waits for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hermesd.adapters.contract import Question
from hermesd.ipc.ids import AskId, SessionKey
from hermesd.ipc.messages import Answer
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal, answers, outbox
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.pool.worker import Worker

from . import words
from .approvals import Approvals, chosen
from .lane import Lane, Turn


@dataclass(frozen=True, slots=True)
class _Silent:
    lane: Lane
    turn: Turn
    worker: Worker

    @property
    def is_at_it(self) -> bool:
        return self.lane.current is self.turn and self.lane.worker is self.worker and self.turn.accepted


class EarlyAnswers:
    """Owned by `Lanes`."""

    def __init__(self, journal: Journal, persistence: Persistence, approvals: Approvals, deliverer: Deliverer):
        self._journal = journal
        self._persistence = persistence
        self._approvals = approvals
        self._deliverer = deliverer
        self._silent: dict[SessionKey, _Silent] = {}
        self._one_at_a_time = asyncio.Lock()

    def expect(self, lane: Lane, turn: Turn, worker: Worker) -> None:
        """The worker was taken over with this turn, and has not said how things stand."""
        self._silent[lane.key] = _Silent(lane, turn, worker)

    def heard(self, lane: Lane) -> None:
        """It has."""
        self._silent.pop(lane.key, None)

    async def answer_one(self, ask: AskId, choice: str, by: str, number: int = -1) -> bool:
        """Answer this question. False: it is over, or never was. Raises ValueError as `Approvals.answer` does."""
        if self._approvals.answer_one(ask, choice, by, number) is not None:
            return True
        async with self._one_at_a_time:
            for silent in list(self._silent.values()):
                for question in await self._open(silent):
                    if question.ask == ask:
                        return await self._decide(silent, question, choice, by, number)
        # Its worker may have spoken while we looked.
        return self._approvals.answer_one(ask, choice, by, number) is not None

    async def answer(self, key: SessionKey, choice: str, by: str) -> bool:
        """Answer the session's oldest question. False: there is none. Raises ValueError as `Approvals.answer` does."""
        async with self._one_at_a_time:
            if (silent := self._silent.get(key)) is not None and (questions := await self._open(silent)):
                return await self._decide(silent, questions[0], choice, by)
        return self._approvals.answer(key, choice, by) is not None

    async def _open(self, silent: _Silent) -> list[Question]:
        """What its user was asked and has not answered, as far as the journal knows; oldest first."""
        if not self._is_silent(silent):
            return []
        rows = await self._journal.read(outbox.open_questions, silent.turn.id)
        asked = [row.message.question for row in rows if row.message.question is not None]
        return [question for question in asked if question.ask not in silent.turn.answered]

    async def _decide(self, silent: _Silent, question: Question, choice: str, by: str, number: int = -1) -> bool:
        ask = AskId(question.ask)
        if self._approvals.answer_one(ask, choice, by, number) is not None:
            return True
        answer = Answer(ask, chosen(question.choices, choice, number), by)
        if not await self._persistence.keep(answers.record, silent.turn.id, answer):
            return False  # somebody else's was first
        if not self._is_silent(silent):
            return self._approvals.answer_one(ask, choice, by, number) is not None
        silent.turn.answered[ask] = answer
        self._deliverer.questions.over(silent.turn.id, ask, words.outcome(answer.choice, by))
        return True

    def _is_silent(self, silent: _Silent) -> bool:
        return self._silent.get(silent.lane.key) is silent and silent.is_at_it
