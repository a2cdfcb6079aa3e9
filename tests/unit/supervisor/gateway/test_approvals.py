from __future__ import annotations

import asyncio

import pytest

from hermesd.ipc.ids import AskId, SessionKey
from hermesd.ipc.messages import Answer, Ask
from hermesd.supervisor.gateway.approvals import Approvals

ANN, BOB = SessionKey("ann"), SessionKey("bob")


def ask(name: str, timeout: float = 60.0, choices: tuple[str, ...] = ("approve", "deny")) -> Ask:
    return Ask(name, "t1", "may I?", choices, timeout)


class Open(Approvals):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.answered = asyncio.Event()

    def put(self, key: SessionKey, question: Ask) -> None:
        self.open(key, question, self._take)

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.answered.set()

    async def time_passes(self) -> None:
        """Past the end of every earlier question of one millisecond: the loop's timers go off in their order."""
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, over.set)
        await over.wait()


@pytest.fixture
async def approvals() -> Open:
    return Open()


async def test_the_oldest_question_of_the_session_is_answered(approvals: Open) -> None:
    for key, name in ((BOB, "b1"), (ANN, "a1"), (ANN, "a2")):
        approvals.put(key, ask(name))
    assert approvals.answer(ANN, "DENY", "u1") == ask("a1")
    assert approvals.answers == [Answer("a1", "deny", "u1")]
    assert [question.ask for question in approvals.of(ANN)] == ["a2"]
    assert [question.ask for question in approvals.of(BOB)] == ["b1"]


async def test_a_choice_is_known_by_its_number(approvals: Open) -> None:
    choices = ("not  now", "not now", "never")
    for name, number, choice in (("a1", 0, "not  now"), ("a2", 1, "not now"), ("a3", -1, "never")):
        approvals.put(ANN, ask(name, choices=choices))
        assert approvals.answer_one(AskId(name), "not now" if number >= 0 else "never", "u1", number) is not None
        assert approvals.answers[-1] == Answer(name, choice, "u1")
    approvals.put(ANN, ask("a4", choices=choices))
    with pytest.raises(ValueError, match="is not one of"):
        approvals.answer_one(AskId("a4"), "other", "u1", 3)


async def test_there_is_none(approvals: Open) -> None:
    assert approvals.answer(ANN, "approve", "u1") is None


async def test_a_wrong_choice_leaves_it_open(approvals: Open) -> None:
    approvals.put(ANN, ask("a1", choices=("red", "blue")))
    with pytest.raises(ValueError, match="'green' is not one of: red, blue"):
        approvals.answer(ANN, "green", "u1")
    assert approvals.of(ANN)
    assert not approvals.answers


async def test_time_answers_once(approvals: Open) -> None:
    approvals.put(ANN, ask("a1", timeout=0.0))
    await approvals.answered.wait()
    assert approvals.answers == [Answer("a1", "", "nobody in time")]
    assert approvals.answer(ANN, "approve", "u1") is None


async def test_an_answer_stops_the_clock(approvals: Open) -> None:
    approvals.put(ANN, ask("a1", timeout=0.001))
    approvals.answer(ANN, "approve", "u1")
    await approvals.time_passes()
    assert approvals.answers == [Answer("a1", "approve", "u1")]


async def test_the_end_of_the_turn_answers_nothing(approvals: Open) -> None:
    approvals.put(ANN, ask("a1", timeout=0.001))
    approvals.put(BOB, ask("b1"))
    approvals.drop(ANN)
    await approvals.time_passes()
    assert not approvals.answers
    assert approvals.of(BOB)


async def test_refusing_tells_the_agent_at_once(approvals: Open) -> None:
    approvals.put(ANN, ask("a1"))
    approvals.refuse(AskId("a1"))
    approvals.refuse(AskId("a1"))
    assert approvals.answers == [Answer("a1", "", "undeliverable")]


async def test_deny_declines_also_a_question_that_has_no_such_choice(approvals: Open) -> None:
    approvals.put(ANN, ask("a1", choices=("red", "blue")))
    assert approvals.answer(ANN, "deny", "u1") is not None
    assert approvals.answers == [Answer("a1", "", "u1")]
    assert approvals.of(ANN) == []
