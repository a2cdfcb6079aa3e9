from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.text import (
    SMALLEST_LIMIT,
    Unit,
    characters,
    chat_name_problem,
    clean,
    split,
    utf8_bytes,
    utf16_units,
)

any_text = st.text(st.characters(exclude_categories=()))
units = st.sampled_from([characters, utf16_units, utf8_bytes])


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("plain", "plain"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("nul\0 bell\a escape\x1b[2J", "nul bell escape[2J"),
        ("delete\x7f and c1\x9b2J", "delete and c12J"),
        ("mac\rwindows\r\nunix\n", "mac\nwindows\nunix\n"),
        ("lone \ud83d", "lone \ufffd"),
        ("joined \ud83d\ude00", "joined \U0001f600"),
        ("umlaut ä, emoji 👩‍🚀", "umlaut ä, emoji 👩‍🚀"),
    ],
)
def test_clean_keeps_text_and_drops_what_terminals_and_the_wire_choke_on(dirty: str, cleaned: str) -> None:
    assert clean(dirty) == cleaned


@given(any_text)
def test_cleaned_text_is_valid_and_clean_again(text: str) -> None:
    once = clean(text)
    once.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", once)
    assert clean(once) == once


def test_units_differ_outside_the_basic_plane() -> None:
    assert (characters("a👍"), utf16_units("a👍"), utf8_bytes("a👍")) == (2, 3, 5)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("kitchen", ""),
        ("user:42@home", ""),
        ("", "empty"),
        ("two words", "space"),
        ("a\nb", "space"),
        ("x" * 129, "129"),
    ],
)
def test_a_chat_name_is_short_and_without_spaces(name: str, problem: str) -> None:
    assert problem in chat_name_problem(name)
    assert bool(problem) == bool(chat_name_problem(name))


def test_text_that_fits_is_one_message_and_blank_text_none() -> None:
    assert split("hello\n\nworld", 40) == ["hello\n\nworld"]
    assert split(" \n ", 40) == []


def test_prose_is_cut_at_lines_before_spaces_before_characters() -> None:
    assert split("a" * 30 + "\n" + "b" * 30, 40) == ["a" * 30, "b" * 30]
    assert split("word " * 12, 32) == ["word word word word word word", "word word word word word word "]
    assert split("x" * 70, 32) == ["x" * 32, "x" * 32, "x" * 6]


def test_a_fence_that_fits_into_one_message_is_not_cut() -> None:
    fence = "```python\nfor x in y:\n    print(x)\n```"
    assert split("intro " * 6 + "\n" + fence + "\nafter", 50) == ["intro " * 6, fence + "\nafter"]


def test_a_long_fence_is_closed_and_opened_again_with_its_language() -> None:
    code = [f"line {number}" for number in range(12)]
    messages = split("\n".join(["```py", *code, "```"]), 40)
    assert len(messages) > 1
    assert all(message.startswith("```py\n") and message.endswith("\n```") for message in messages)
    assert [line for message in messages for line in message.split("\n")[1:-1]] == code


def test_a_fence_that_is_never_closed_is_closed() -> None:
    assert split("~~~\n" + "code\n" * 10, 40)[-1].endswith("\n~~~")


def test_inline_backticks_open_no_fence() -> None:
    text = "```not a fence``` " + "word " * 10
    assert not any(message.endswith("\n```") for message in split(text, 40))


def test_a_cut_never_falls_inside_one_visible_sign() -> None:
    assert all(not message.startswith(("\u0301", "\u200d")) for message in split("e\u0301" * 40, 33))


def test_a_limit_too_small_to_hold_a_fence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        split("x", SMALLEST_LIMIT - 1)


fragments = st.sampled_from(["word", " ", "\n", "```", "```py\n", "~~~~\n", "é", "👩‍🚀", "a" * 50, "`", "\n\n"])


@given(st.lists(fragments, max_size=60).map("".join), st.integers(SMALLEST_LIMIT, 120), units)
def test_every_message_fits_and_no_word_is_lost(text: str, limit: int, unit: Unit) -> None:
    messages = split(text, limit, unit)
    assert all(0 < unit(message) <= limit for message in messages)

    def letters(value: str) -> str:
        return re.sub(r"[^a-oq-xzé👩🚀]", "", value)

    # A subsequence: the language of a fence is repeated where it is opened again.
    rest = iter(letters("".join(messages)))
    assert all(letter in rest for letter in letters(text))


@given(st.lists(fragments, max_size=60).map("".join), st.integers(SMALLEST_LIMIT, 120))
def test_no_message_ends_inside_a_fence(text: str, limit: int) -> None:
    messages = split(text, limit)
    if len(messages) < 2:
        return
    for message in messages:
        open_marker = ""
        for line in message.split("\n"):
            match = re.match(r"^ {0,3}(`{3,}|~{3,})(.*)$", line)
            if not match:
                continue
            if not open_marker:
                if not (match[1][0] == "`" and "`" in match[2]):
                    open_marker = match[1]
            elif not match[2].strip() and match[1].startswith(open_marker):
                open_marker = ""
        assert open_marker == ""
