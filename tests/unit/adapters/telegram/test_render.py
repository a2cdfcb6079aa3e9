"""Markdown as text with entities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import MessageEntity

from hermesd.adapters.telegram.render import MENTION, plain, rendered
from hermesd.adapters.text import utf16_units


def marks(source: str) -> list[tuple[str, str]]:
    """(type, what it covers) of each entity."""
    text, entities = rendered(source)
    units = text.encode("utf-16-le")
    return [
        (str(one.type), units[one.offset * 2 : (one.offset + one.length) * 2].decode("utf-16-le")) for one in entities
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("a\nb", "a\nb"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("# Title\ntext", "Title\ntext"),
        ("text\n- a\n- b", "text\n• a\n• b"),
        ("- a\n  - b\n    - c\n- d", "• a\n  • b\n    • c\n• d"),
        ("- a\n\n  more of a\n\n- b", "• a\n\n  more of a\n\n• b"),
        ("1. a\n2. b\n   1. c", "1. a\n2. b\n  1. c"),
        ("3) a", "3) a"),
        ("> said\n> twice\n\nme", "said\ntwice\n\nme"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("```python\nprint(1)\n```\nafter", "print(1)\nafter"),
        ("a `b` c", "a b c"),
        ("**a** *b* ~~c~~", "a b c"),
        ("snake_case_name and 2*3*4", "snake_case_name and 234"),
        ("[site](https://example.org)", "site"),
        ("[doc](docs/a.md)", "doc (docs/a.md)"),
        ("![cat](https://example.org/cat.png)", "cat"),
        ("<b>not bold</b>", "<b>not bold</b>"),
        ("&copy; &lt;", "© <"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\nend", "| a | b |\n|---|---|\n| 1 | 2 |\n\nend"),
        ("a\x1b[31m\x07b", "a[31mb"),
        ("```\n```", "```\n```"),
        ("-", "-"),
    ],
)
def test_text(source: str, text: str) -> None:
    assert rendered(source)[0] == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# A", [("bold", "A")]),
        ("😀 **b😀** c", [("bold", "b😀")]),
        ("***both***", [("bold", "both"), ("italic", "both")]),
        ("**a `c` b**", [("bold", "a "), ("code", "c"), ("bold", " b")]),
        ("# A **b**", [("bold", "A b")]),
        ("> a **b**", [("blockquote", "a b"), ("bold", "b")]),
        ("> a\n> > b", [("blockquote", "a\nb")]),
        ("[x](https://e.org/?a=1&b=2)", [("text_link", "x")]),
        ("[x](tg://user?id=1)", []),
        ("[x](javascript:1)", []),
        ("~~s~~", [("strikethrough", "s")]),
        ("ask @ann_bee now", [("code", "@ann_bee")]),
        ("**ask @ann_bee now**", [("bold", "ask "), ("code", "@ann_bee"), ("bold", " now")]),
        ("ann@example.org @ab", []),
        ("`@ann_bee`", [("code", "@ann_bee")]),
        ("[x](@ann_bee)", [("code", "@ann_bee")]),
    ],
)
def test_entities(source: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(marks(source)) == sorted(expected)


def test_code_has_its_language() -> None:
    _, [entity] = rendered("```python title=x\nprint(1)\n```")
    assert (entity.type, entity.language) == (MessageEntity.PRE, "python")


def test_a_link_has_its_address() -> None:
    _, [entity] = rendered("[x](https://e.org/a)")
    assert entity.url == "https://e.org/a"


@pytest.mark.parametrize("source", ["@**ann_bee**", "[@ann_bee](https://e.org)", "![@ann_bee](https://e.org)"])
def test_a_name_that_comes_together_pings_nobody(source: str) -> None:
    assert not MENTION.search(rendered(source)[0])


def test_a_plain_text_pings_nobody_either() -> None:
    assert plain("**hi** @ann_bee, me@example.org") == "**hi** ＠ann_bee, me@example.org"


PIECES = st.sampled_from([
    "**", "*", "_", "`", "```", "```py\n", "~~", "\n", "\n\n", "# ", "- ", "  - ", "1. ", "> ", "| a | b |\n|-|-|\n",
    "[x](", "https://e.org", ")", "@ann_bee", "😀", "a", " ", "---\n", "\\", "![", "](", "<b>", "&amp;", "\t", "    ",
    "\ud800",
])  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_is_never_longer_and_its_entities_are_sound(source: str) -> None:
    text, entities = rendered(source)
    assert utf16_units(text) <= utf16_units(source)
    assert text == text.strip()
    assert bool(text) == bool(plain(source))
    units = text.encode("utf-16-le")
    opaque = []
    for entity in entities:
        assert entity.length > 0
        assert entity.offset >= 0
        assert (entity.offset + entity.length) * 2 <= len(units)
        units[entity.offset * 2 : (entity.offset + entity.length) * 2].decode("utf-16-le")  # cuts no pair
        if entity.type in (MessageEntity.CODE, MessageEntity.PRE):
            opaque.append(range(entity.offset, entity.offset + entity.length))
    for entity in entities:
        inside = range(entity.offset, entity.offset + entity.length)
        if entity.type != MessageEntity.BLOCKQUOTE:
            assert not any(inside != other and set(inside) & set(other) for other in opaque)
    for match in MENTION.finditer(text):
        assert any(utf16_units(text[: match.start()]) in place for place in opaque)
