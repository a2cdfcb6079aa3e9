"""Tables, trees and colour."""

from __future__ import annotations

import io
import json

import pytest

from hermesd.supervisor.cli.render import Column, Paint, branches, cut, display_width, json_line, table, wants_color

PLAIN = Paint(on=False)
COLUMNS = (Column("SESSION", shrinks=True), Column("STATE", states=True), Column("MEM", right=True))
ROWS = [
    ("agent:main:telegram:dm:42", "busy", "120M"),
    ("agent:main:local:dm", "backoff(12s)", "-"),
    ("日本語", "idle", "9.5K"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned_and_figures_are_at_the_right() -> None:
    assert table(COLUMNS, ROWS, PLAIN) == [
        "SESSION                    STATE          MEM",
        "agent:main:telegram:dm:42  busy          120M",
        "agent:main:local:dm        backoff(12s)     -",
        "日本語                     idle          9.5K",
    ]


def test_in_a_narrow_terminal_the_columns_that_may_shrink_are_cut() -> None:
    lines = table(COLUMNS, ROWS, PLAIN, width=35)
    assert lines[1] == "agent:main:tel…  busy          120M"
    assert all(display_width(line) <= 35 for line in lines)


def test_a_terminal_that_is_too_narrow_for_anything_cuts_no_figures() -> None:
    assert "120M" in table(COLUMNS, ROWS, PLAIN, width=10)[1]


def test_without_a_terminal_nothing_is_cut() -> None:
    long = "x" * 500
    assert long in table(COLUMNS, [(long, "idle", "1B")], PLAIN)[1]


def test_a_table_without_rows_still_has_its_titles() -> None:
    assert table(COLUMNS, [], PLAIN) == ["SESSION  STATE  MEM"]


def test_colour_repeats_the_words_and_does_not_disturb_the_columns() -> None:
    coloured = table(COLUMNS, ROWS, Paint(on=True))
    assert coloured[1] == "agent:main:telegram:dm:42  \x1b[36mbusy\x1b[0m          120M"
    assert "\x1b[33mbackoff(12s)\x1b[0m" in coloured[2]


def test_a_cut_counts_wide_characters_as_two_columns() -> None:
    assert cut("日本語テスト", 7) == "日本語…"
    assert display_width("e\u0301") == 1


@pytest.mark.parametrize(
    ("choice", "terminal", "env", "wanted"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", False, {"TERM": "xterm"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", False, {"FORCE_COLOR": "1"}, True),
        ("auto", True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_unless_somebody_says_otherwise(
    choice: str, terminal: bool, env: dict[str, str], wanted: bool
) -> None:
    assert wants_color(choice, Terminal() if terminal else io.StringIO(), env) is wanted


def test_a_tree_has_its_branches_drawn() -> None:
    assert branches([0, 1, 2, 2, 1, 2, 3, 0]) == [
        "",
        "├─ ",
        "│  ├─ ",
        "│  └─ ",
        "└─ ",
        "   └─ ",
        "      └─ ",
        "",
    ]


def test_json_is_one_line_unless_a_person_reads_it() -> None:
    stream = io.StringIO()
    json_line({"schema": 1, "text": "Grüße\n"}, stream)
    assert stream.getvalue() == '{"schema": 1, "text": "Grüße\\n"}\n'
    indented = io.StringIO()
    json_line({"schema": 1}, indented, indent=2)
    assert json.loads(indented.getvalue()) == {"schema": 1}
    assert indented.getvalue().count("\n") == 3
