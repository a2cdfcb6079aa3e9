from __future__ import annotations

from typing import Any

import pytest

from hermesd.workers.agents.hermes.results import Result, new_messages, read, rest_of, so_far, spent

WHOLE = {
    "final_response": " Noon. ", "messages": [{"role": "user", "content": "when?"}], "completed": True, "failed": False,
    "partial": False, "interrupted": False, "prompt_tokens": 30, "completion_tokens": 4,
}  # fmt: skip


def test_a_run_with_an_answer() -> None:
    result = read(WHOLE)
    assert (result.text, result.failure, result.interrupted) == ("Noon.", "", False)
    assert result.totals == {"prompt_tokens": 30, "completion_tokens": 4}
    assert list(result.messages) == WHOLE["messages"]


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        (None, "hermes-agent returned no result"),
        ({}, "the model gave no answer"),
        ({"final_response": None, "completed": True}, "the model gave no answer"),
        ({"failed": True, "error": "HTTP 400: no such model"}, "the model failed: HTTP 400: no such model"),
        ({"failed": True, "final_response": "it broke"}, "the model failed: it broke"),
        ({"failed": True}, "the model failed: no reason was given"),
        ({"partial": True, "error": "too long"}, "the run was given up: too long"),
        ({"partial": True, "error": "too long", "final_response": "too long"}, "the run was given up: too long"),
        ({"partial": True, "failed": True, "error": "cut"}, "the model failed: cut"),
    ],
)
def test_a_run_without_one_says_why(found: Any, failure: str) -> None:
    assert read(found).failure == failure


def test_a_partial_answer_is_kept_and_marked() -> None:
    result = read({"partial": True, "error": "truncated", "final_response": "Once upon"})
    assert result.failure == ""
    assert result.text == "Once upon\n\n[The answer ends here: truncated]"


def test_an_interrupted_run_is_neither_an_answer_nor_a_failure() -> None:
    result = read({"interrupted": True, "final_response": "Operation interrupted.", "failed": True})
    assert result.interrupted
    assert result.failure == ""


def test_tokens_are_those_of_one_run() -> None:
    assert spent({"prompt_tokens": 50, "completion_tokens": 4}, {"prompt_tokens": 30, "completion_tokens": 4}) == {
        "prompt_tokens": 20
    }


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
NEXT = {"role": "user", "content": "c"}


def test_new_messages_are_those_behind_the_history() -> None:
    assert new_messages([USER, ANSWER], [USER, ANSWER, NEXT]) == [NEXT]
    assert new_messages([USER, ANSWER], [{"role": "user", "content": "a summary"}, NEXT, ANSWER]) is None
    assert new_messages([USER, ANSWER], [NEXT]) is None


@pytest.mark.parametrize(
    ("said", "last", "answer", "rest"),
    [
        ("", "", "Noon.", "Noon."),
        ("Noon.", "Noon.", "Noon.", None),
        ("Let me look.\n\nNoon.", "Noon.\n", "Noon.", None),
        ("Let me look.", "", "Noon.", "Let me look.\n\nNoon."),
        ("Let me look.\n\n<think>x</think>Noon.", "<think>x</think>Noon.", "Noon.", "Let me look.\n\nNoon."),
    ],
)
def test_the_answer_is_made_whole_only_where_the_chat_has_not_seen_it(
    said: str, last: str, answer: str, rest: str | None
) -> None:
    assert rest_of(said, last, answer) == rest


def test_a_run_that_follows_in_the_same_turn_knows_what_the_one_before_it_was_asked() -> None:
    earlier = [{"role": "user", "content": "hello"}]
    assert so_far(earlier, "when?", read(WHOLE)) == WHOLE["messages"]
    asked = so_far(earlier, "when?", Result("Noon."))
    assert [(one["role"], one["content"]) for one in asked[1:]] == [("user", "when?"), ("assistant", "Noon.")]
