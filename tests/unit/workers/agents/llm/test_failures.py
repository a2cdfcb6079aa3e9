from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from hermesd.workers.agents.llm.failures import PATIENCE, Cut, Failure, Nothing, failure_of, wait_before
from hermesd.workers.agents.llm.settings import Model

MODEL = Model("big", "https://user:pw@models.example:8000/v1", "sk-the-key-itself")
REQUEST = httpx2.Request("POST", "https://models.example:8000/v1/chat/completions")


def status(number: int, body: Any = None, **headers: str) -> openai.APIStatusError:
    """As the SDK makes one of a response."""
    response = httpx2.Response(number, request=REQUEST, headers=headers, text=json.dumps(body) if body else "")
    return openai.OpenAI(api_key="-", base_url="http://x/v1")._make_status_error_from_response(response)


@pytest.mark.parametrize(
    ("error", "sentence", "again", "elsewhere"),
    [
        (status(400, {"error": {"message": "no such thing"}}),
         "models.example:8000 refused the request for the model big (400): no such thing", False, False),
        (status(400, {"error": {"message": "model `big` not found"}}),
         "models.example:8000 refused the request for the model big (400): model `big` not found", False, True),
        (status(401, {"error": {"message": "Incorrect API key: sk-the-key-itself"}}),
         "models.example:8000 did not accept the key for the model big (401): Incorrect API key: [redacted]",
         False, True),
        (status(404), "models.example:8000 knows no model big (404)", False, True),
        (status(429, {"message": "slow down"}, **{"retry-after": "7"}),
         "models.example:8000 takes no more requests just now (429) and asks to wait for 7 s: slow down", True, True),
        (status(500, {"error": "broken"}), "models.example:8000 has a fault of its own (500): broken", True, True),
        (status(529), "models.example:8000 has a fault of its own (529)", True, True),
        (openai.APITimeoutError(REQUEST), "models.example:8000 did not answer in time", False, True),
        (openai.APIConnectionError(request=REQUEST), "models.example:8000 cannot be reached: Connection error.",
         True, True),
        (openai.APIError("upstream", REQUEST, body={"code": 502, "message": "upstream"}),
         "models.example:8000 has a fault of its own (502): upstream", True, True),
        (openai.APIError("odd", REQUEST, body=None), "models.example:8000 answered with an error: odd", False, True),
        (json.JSONDecodeError("x", "y", 0), "models.example:8000 sent an answer that cannot be read", True, True),
        (Nothing(), "the model big answered with nothing", True, True),
        (Cut(), "the answer of the model big broke off in the middle", True, True),
    ],
)  # fmt: skip
def test_what_an_error_means(error: Exception, sentence: str, again: bool, elsewhere: bool) -> None:
    found = failure_of(error, MODEL)
    assert (found.sentence, found.again, found.elsewhere) == (sentence, again, elsewhere)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", 8192),
        ("the request exceeds the available context size (8192 tokens), try increasing it", 8192),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200000),
        ("The input token count (40000) exceeds the maximum number of tokens allowed (32768).", 32768),
        ("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", 32768),
        ("Please reduce the length of the messages or completion.", 0),
        ("Input is over the context window", 0),
    ],
)
def test_a_conversation_that_is_too_long_is_known_by_what_is_said(said: str, limit: int) -> None:
    found = failure_of(status(400, {"error": {"message": said}}), MODEL)
    assert found.too_long
    assert found.limit == limit
    assert found.sentence.startswith("the conversation is too long for the model big: ")
    assert not found.about_images


def test_the_window_that_llama_cpp_names_in_a_field_of_its_own_is_believed() -> None:
    said = {"code": 400, "message": "the request exceeds the available context size, try increasing it",
            "type": "exceed_context_size_error", "n_prompt_tokens": 5017, "n_ctx": 4096}  # fmt: skip
    found = failure_of(status(400, {"error": said}), MODEL)
    assert (found.too_long, found.limit) == (True, 4096)


def test_a_connection_that_ends_after_text_is_an_answer_that_broke_off() -> None:
    found = failure_of(openai.APIConnectionError(request=REQUEST), MODEL, begun=True)
    assert found.sentence.startswith("the answer of the model big broke off")


def test_a_whole_page_of_html_is_one_short_line() -> None:
    found = failure_of(status(502, {"error": {"message": "<html>\n" + "<p>x</p>\n" * 1000}}), MODEL)
    assert len(found.sentence) < 400
    assert "\n" not in found.sentence


@pytest.mark.parametrize(
    ("failure", "tries", "stand_in", "seconds"),
    [
        (Failure("", again=False), 1, False, None),
        (Failure("", again=True), 1, False, 0.625),
        (Failure("", again=True), 2, False, 1.25),
        (Failure("", again=True), 3, False, None),
        (Failure("", again=True), 1, True, None),
        (Failure("", again=True, retry_after=7.0), 1, False, 7.0),
        (Failure("", again=True, retry_after=PATIENCE + 1), 1, False, None),
    ],
)
def test_how_long_it_is_waited_for(failure: Failure, tries: int, stand_in: bool, seconds: float | None) -> None:
    assert wait_before(failure, tries, stand_in=stand_in, chance=0.5) == seconds
