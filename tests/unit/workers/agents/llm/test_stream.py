from __future__ import annotations

from types import SimpleNamespace as Chunk
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.workers.agents.llm.stream import Assembly, Call


def delta(finish: Any = None, usage: Any = None, **content: Any) -> Chunk:
    return Chunk(choices=[Chunk(delta=Chunk(**content), finish_reason=finish)], usage=usage)


def part(index: Any, name: Any = None, arguments: Any = None, call_id: Any = None) -> Chunk:
    return delta(tool_calls=[Chunk(index=index, id=call_id, function=Chunk(name=name, arguments=arguments))])


def assembled(*chunks: Any) -> Assembly:
    made = Assembly()
    for chunk in chunks:
        made.add(chunk)
    return made


def test_text_comes_piece_by_piece() -> None:
    made = Assembly()
    assert [made.add(delta(content=text)) for text in ("Hel", None, "", "lo")] == ["Hel", "", "", "lo"]
    assert (made.text, made.finish, made.empty) == ("Hello", "", False)
    made.add(delta("stop", content=None))
    assert made.finish == "stop"


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        ([part(0, "time_now", "", "c1"), part(0, None, '{"a"'), part(0, None, ": 1}")],
         [Call("c1", "time_now", '{"a": 1}')]),
        # llama-cpp-python repeats name and id in every delta
        ([part(0, "time_now", '{"a"', "c1"), part(0, "time_now", ": 1}", "c1")], [Call("c1", "time_now", '{"a": 1}')]),
        ([part(0, "time_", "", "c1"), part(0, "now", "{}")], [Call("c1", "time_now", "{}")]),
        ([part(0, "a_b", "{}", "c1"), part(1, "time_now", "{}", "c2")],
         [Call("c1", "a_b", "{}"), Call("c2", "time_now", "{}")]),
        # Gemini's endpoint gives every parallel call the index 0
        ([part(0, "a_b", "{}", "c1"), part(0, "time_now", "{}", "c2")],
         [Call("c1", "a_b", "{}"), Call("c2", "time_now", "{}")]),
        ([part(None, "time_now", "{}", "c1"), part(None, None, "")], [Call("c1", "time_now", "{}")]),
        ([part(0, "time_now", {"a": 1}, None)], [Call("call_0", "time_now", '{"a": 1}')]),
        ([part(0, "no_such", "", "c1"), part(0, "no_such", "", "c1")], [Call("c1", "no_such", "")]),
    ],
)  # fmt: skip
def test_tool_calls(chunks: list[Any], calls: list[Call]) -> None:
    assert assembled(*chunks).calls({"time_now", "a_b"}) == calls


def test_the_last_usage_counts() -> None:
    made = assembled(
        delta(content="a", usage=Chunk(prompt_tokens=10, completion_tokens=1)),
        Chunk(choices=[], usage=Chunk(prompt_tokens=10, completion_tokens=2)),
        Chunk(choices=[], usage=Chunk(prompt_tokens="many", completion_tokens=None)),
    )
    assert made.usage == {"prompt_tokens": 10, "completion_tokens": 2}


@pytest.mark.parametrize("chunk", [Chunk(), Chunk(choices=None), Chunk(choices=[]), Chunk(choices="x"), None, 3, "x"])
def test_what_is_no_answer_is_passed_over(chunk: Any) -> None:
    made = assembled(chunk)
    assert made.empty
    assert made.finish == ""


def test_spaces_are_no_answer() -> None:
    assert assembled(delta("stop", content=" \n ")).empty


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "function", "name", "arguments", "index", "id", "usage"]
            ),
            inner,
            max_size=4,
        ).map(lambda fields: Chunk(**fields))
    ),
    max_leaves=12,
)


@given(st.lists(ANYTHING, max_size=4))
def test_nothing_that_a_server_sends_raises(chunks: list[Any]) -> None:
    made = assembled(*chunks)
    assert isinstance(made.text, str)
    assert all(isinstance(call.arguments, str) for call in made.calls({"a"}))
