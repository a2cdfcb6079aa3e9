"""Markdown for Discord: what differs is changed, everything else stays, and nothing grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.discord.render import render
from hermesd.adapters.text import clean

SAME = [
    "", "plain", "**bold** *italic* _italic_ ~~gone~~ `code`", "# one\n## two\n### three", "- a\n  - b\n1. c",
    "> quoted\n> more", "[here](https://example.org)", "<https://example.org/a_b__c>", "two\n\nparagraphs",
    "```py\n| a | b |\n|---|---|\n```", "`![x](y)` and `__x__` and `&amp;`", "a_b_c foo__bar__baz",
    r"\*not bold\* \# not a heading", "https://example.org/__x__?a=1&amp=2", "@everyone <@123> <#4>", "1 < 2 & 3 > 2",
    "~~~\n#### x\n~~~",
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_what_discord_understands_stays_as_it_is(text: str) -> None:
    assert render(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### Four", "**Four**"),
        ("###### Six **bold** ##", "**Six bold**"),
        ("Title\n=====\ntext", "# Title\ntext"),
        ("Title\n---\n\ntext", "## Title\n\ntext"),
        ("![a cat](https://x.org/c.png)", "[a cat](https://x.org/c.png)"),
        ("![](https://x.org/c.png)", "https://x.org/c.png"),
        ("__strong__ and __init__", "**strong** and **init**"),
        ("a &amp; b &lt;c&gt; &quot;", 'a & b <c> "'),
        ("one  \ntwo\\\nthree", "one\ntwo\nthree"),
        ("    x = 1\n    y = 2\n\nend", "```\nx = 1\ny = 2\n```\n\nend"),
        (
            "before\n\n| name | n |\n|:-----|--:|\n| ab | 12345 |\n| **c** | `d` |\n\nafter",
            "before\n\n```\nname | n\nab   | 12345\nc    | d\n```\n\nafter",
        ),
        ("| a | b |\n|---|---|\n| 1 \\| 2 | 3 |", "```\na     | b\n1 | 2 | 3\n```"),
    ],
)
def test_what_it_does_not_understand_is_changed(text: str, expected: str) -> None:
    assert render(text) == expected


def test_a_table_that_would_grow_stays() -> None:
    assert render("a|b\n-|-\n1|2") == "a|b\n-|-\n1|2"


MARKDOWN = st.lists(
    st.sampled_from(
        ["#### h", "# h", "| a | b |", "|---|---|", "| c | d |", "```", "~~~", "    code", "> q", "- i", "===", "---",
         "![a](b)", "__s__", "`__c__`", "&amp;", "&#42;", "text  ", "end\\", "", "\\`", "``x`", "|", "1|2", "-|-"]
    )
    | st.text(max_size=12),
    max_size=12,
).map("\n".join)  # fmt: skip


@given(MARKDOWN)
def test_it_never_grows_and_never_fails(text: str) -> None:
    assert len(render(text)) <= len(text)


@given(st.text(alphabet=st.characters(exclude_characters="`~").filter(lambda char: clean(char) == char), max_size=60))
def test_code_is_never_touched(code: str) -> None:
    assert f"```\n{code}\n```" in render(f"before\n\n```\n{code}\n```\n\nafter")


def test_what_no_chat_may_get_is_left_out() -> None:
    assert render("a\x1b[31mb\x00c\ud83d") == "a[31mbc\ufffd"
