"""What keeps a text that a stranger had an agent write from holding the event loop up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters import markdown
from hermesd.adapters.discord.render import render
from hermesd.adapters.matrix.render import html
from hermesd.adapters.telegram.render import rendered

HEAD = "|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n"
"""Of a table of 100 columns; each row below it, be it two characters, has as many cells."""


def _cells(text: str) -> int:
    return sum(token.type in ("th_open", "td_open") for token in markdown._parser(tables=True).parse(text))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "|\n" * 60,
        "> " + (HEAD + "|\n" * 60).replace("\n", "\n> "),
        "- " + (HEAD + "|\n" * 60).replace("\n", "\n  "),
        (HEAD + "|\n" * 60).replace("\n", "\r\n"),
        (HEAD + "|\n" * 9 + "\n") * 9,
    ],
    ids=["plain", "in a quotation", "in a list", "with other line ends", "many"],
)
def test_a_table_of_nothing_but_padding_is_text(text: str) -> None:
    assert _cells(text) > markdown.MOST_CELLS
    assert not any(token.type == "table_open" for token in markdown.parse(text))


@pytest.mark.parametrize(
    "draw",
    [html, lambda text: rendered(text)[0], render],
    ids=["matrix", "telegram", "discord"],
)
def test_every_platform_still_says_what_it_holds(draw: Callable[[str], str]) -> None:
    drawn = draw("before **bold**\n\n" + HEAD + "|\n" * 60 + "\nafter")
    assert "before" in drawn
    assert "a|a|a" in drawn
    assert drawn.rstrip("</p>").endswith("after")


def test_a_table_that_is_as_large_as_a_message_is_one() -> None:
    text = "| name | value |\n|---|---|\n" + "| a | b |\n" * 400
    assert any(token.type == "table_open" for token in markdown.parse(text))
    assert any(token.type == "table_open" for token in markdown.parse(text + "\n" + "words | and words\n" * 900))


PIECES = (
    *("a|b", "|a|b|c|", "-|-", "|-|:-:|---|", "|", "> ", "- ", "1. ", "\n", "\n\n", "\r\n", "    ", "\t", "\u00a0"),
    *("```", "# ", "---", "x"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_cells_are_never_counted_too_few(text: str) -> None:
    assert markdown.cells_at_most(text) >= _cells(text)
