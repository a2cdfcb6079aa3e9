from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.api_server.openai import ApiProblem, ChatRequest, parse, usage
from hermesd.adapters.contract import Outbound, Utterance


def request(messages: Any, **more: Any) -> ChatRequest:
    return parse(json.dumps({"messages": messages, **more}).encode(), "default-model")


def test_roles_and_parts_become_text() -> None:
    made = request(
        [
            {"role": "developer", "content": "rules"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"role": "user", "content": "now \ud800"},
        ]
    )
    assert made.history == (Utterance("system", "rules"), Utterance("assistant", "a\nb"))
    assert made.text == "now \ufffd"
    assert made.model == "default-model"
    assert not made.stream


def test_images_are_told_apart_by_message() -> None:
    def image(data: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}

    made = request(
        [
            {"role": "user", "content": [{"type": "text", "text": "see"}, image("AAAA")]},
            {"role": "user", "content": [image("BBBB")]},
        ]
    )
    assert made.images == ("data:image/png;base64,BBBB",)
    assert made.earlier_images == ("data:image/png;base64,AAAA",)
    assert made.text == ""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"n": 2}, "only one answer"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"model": 3}, "model must be a string"),
        ({"stream_options": {"include_usage": 1}}, "include_usage must be true or false"),
    ],
)
def test_parameters_of_the_wrong_kind_are_named(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiProblem, match=why) as caught:
        request([{"role": "user", "content": "x"}], **more)
    assert caught.value.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "url", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["messages", "model", "stream", "n", "user", "stream_options"]), json_values))
def test_whatever_json_comes_is_read_or_refused_with_400(body: dict[str, Any]) -> None:
    try:
        outcome: ChatRequest | ApiProblem = parse(json.dumps(body).encode(), "m")
    except ApiProblem as problem:
        outcome = problem
    if isinstance(outcome, ApiProblem):
        assert outcome.status == 400
        assert outcome.body()["error"]["message"]
    else:
        assert outcome.text or outcome.images


def test_usage_is_the_agents_or_a_quarter_of_the_characters() -> None:
    made = request([{"role": "system", "content": "12345"}, {"role": "user", "content": "1234"}])
    estimated = usage(made, Outbound("k", "x"), "12345678")
    assert estimated == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    known = usage(made, Outbound("k", "x", usage={"input_tokens": 10, "completion_tokens": 4.0}), "x")
    assert known == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    odd = usage(made, Outbound("k", "x", usage={"prompt_tokens": "many", "completion_tokens": float("nan")}), "1234")
    assert odd == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
