"""Questions of agents to their users: who may answer, until when, and what became of them.

A question belongs to one running turn. It is answered once, by its session's user, by time, or by the turn's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hermesd.ipc.ids import AskId, SessionKey
from hermesd.ipc.messages import Answer, Ask

from . import words

DENY = "deny"
APPROVE = "approve"
ONCE = "once"
"""What a plain yes means where a question tells yes from yes for ever."""


@dataclass(slots=True)
class Question:
    key: SessionKey
    ask: Ask
    reply: Callable[[Answer], None]
    timer: asyncio.TimerHandle


class Approvals:
    """Open questions, oldest first per session."""

    def __init__(self, on_over: Callable[[Ask, str], None] = lambda ask, outcome: None) -> None:
        """``on_over`` is told of each question that ends, with what came of it, for its chat."""
        self._open: dict[AskId, Question] = {}
        self._on_over = on_over

    def open(self, key: SessionKey, ask: Ask, reply: Callable[[Answer], None]) -> None:
        """Register a question. ``reply`` is called exactly once, unless the turn ends first."""
        loop = asyncio.get_running_loop()
        ask_id = AskId(ask.ask)
        timer = loop.call_later(ask.timeout, self._settle, ask_id, "", words.NOBODY)
        self._open[ask_id] = Question(key, ask, reply, timer)

    def of(self, key: SessionKey) -> list[Ask]:
        return [question.ask for question in self._open.values() if question.key == key]

    def answer_one(self, ask_id: AskId, choice: str, by: str, number: int = -1) -> Ask | None:
        """Answer this question, by the number of a choice where that is known. None: it is over, or never was. Raises
        ValueError as `answer` does.
        """
        question = self._open.get(ask_id)
        if question is None:
            return None
        self._settle(ask_id, chosen(question.ask.choices, choice, number), by)
        return question.ask

    def answer(self, key: SessionKey, choice: str, by: str) -> Ask | None:
        """Answer the session's oldest question. None: there is none.

        Raises ValueError when ``choice`` is not one of its choices. "deny" answers every question: where it is none of
        the choices, the agent gets "", as for a question that nobody has answered.
        """
        for ask_id, question in self._open.items():
            if question.key != key:
                continue
            self._settle(ask_id, chosen(question.ask.choices, choice), by)
            return question.ask
        return None

    def refuse(self, ask_id: AskId) -> None:
        """Nobody can be asked: the agent is told at once."""
        self._settle(ask_id, "", "undeliverable")

    def drop(self, key: SessionKey) -> None:
        """The turn is over; nobody waits for an answer any more."""
        for ask_id in [ask_id for ask_id, question in self._open.items() if question.key == key]:
            question = self._open.pop(ask_id)
            question.timer.cancel()
            self._on_over(question.ask, words.QUESTION_IS_OVER)

    def _settle(self, ask_id: AskId, choice: str, by: str) -> None:
        question = self._open.pop(ask_id, None)
        if question is not None:
            question.timer.cancel()
            question.reply(Answer(ask_id, choice, by))
            self._on_over(question.ask, words.outcome(choice, by))


def chosen(choices: Sequence[str], choice: str, number: int = -1) -> str:
    """What somebody has chosen who has said this, or its number. Raises ValueError when it is none of the choices."""
    if 0 <= number < len(choices):
        return choices[number]
    options = {option.casefold(): option for option in choices}
    wanted = options.get(choice.casefold())
    if wanted is None and choice == APPROVE:
        wanted = options.get(ONCE)
    if wanted is None and choice == DENY:
        wanted = ""
    if wanted is None:
        raise ValueError(f"{choice!r} is not one of: {', '.join(choices)}")
    return wanted
