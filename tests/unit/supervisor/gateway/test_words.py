from __future__ import annotations

import pytest

from hermesd.supervisor.gateway import words


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-11, "killed by SIGSEGV"),
     (-250, "killed by signal 250")],
)  # fmt: skip
def test_how_it_ended(code: int, text: str) -> None:
    assert words.how_it_ended(code) == text


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (("approve", "deny"), "Answer with /approve or /deny."),
        (("approve",), "Answer with /approve."),
        (("red", "blue"), "Answer with /approve CHOICE, one of: red, blue; or with /deny."),
    ],
)
def test_a_question_says_how_to_answer(choices: tuple[str, ...], answer: str) -> None:
    assert words.question("may I?", choices) == f"may I?\n\n{answer}"


def test_an_interrupted_answer_shows_what_there_is() -> None:
    assert words.interrupted("half") == "half\n\n(interrupted)"
    assert words.interrupted("") == "Interrupted."


def test_a_turn_whose_time_was_over_says_so() -> None:
    assert words.interrupted("", "it took too long") == "Stopped: it took too long."
    assert words.interrupted("Half", "it took too long") == "Half\n\n(stopped: it took too long)"


def test_the_line() -> None:
    assert words.place_in_line(2, 8) == "All 8 places are taken: your message is number 2 in the line."
    assert words.place_in_line(1, 0) == "A place is being made: your message is number 1 in the line."
    assert words.place_in_line(1, 1) == "The one place is taken: your message is number 1 in the line."


def test_who_cannot_give_commands_is_told_of_none() -> None:
    for text in (words.lost(-9, may_retry=False), words.dead_letter(2, may_retry=False)):
        assert "/" not in text
    assert "/retry" in words.lost(-9)
