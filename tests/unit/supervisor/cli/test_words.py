"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.cli import words

NOW = datetime(2026, 11, 22, 19, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"), (-3, "0s"), (0, "0s"), (0.44, "0.4s"), (9.0, "9s"), (59.9, "59s"), (60, "1m"), (200, "3m 20s"),
        (3600, "1h"), (7260, "2h 1m"), (86400, "1d"), (187_200, "2d 4h"),
    ],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float | None, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.4, "0s"), (41, "41s"), (200, "3m"), (187_200, "2d")])
def test_in_a_table_a_duration_has_one(seconds: float | None, shown: str) -> None:
    assert words.short_duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"), (0, "0B"), (1023, "1023B"), (1024, "1.0K"), (9_728, "9.5K"), (10_200, "10K"), (1_048_400, "1.0M"),
        (125_829_120, "120M"), (1_288_490_189, "1.2G"), (1 << 62, "4096P"),
    ],
)  # fmt: skip
def test_a_size_has_two_or_three_digits(count: int | None, shown: str) -> None:
    assert words.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.414, "0:00.41"), (59.999, "1:00.00"), (727.3, "12:07.30"), (11_100, "3:05:00")],
)
def test_cpu_time_reads_as_in_top(seconds: float | None, shown: str) -> None:
    assert words.cpu_time(seconds) == shown


def test_counted_nouns_agree() -> None:
    assert [words.count(n, "process") for n in (0, 1, 2)] == ["0 processes", "1 process", "2 processes"]
    assert words.count(3, "worker") == "3 workers"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("2 d", 172_800.0)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert words.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-5", "5x", "m10", "1e9", "nan"])
def test_what_is_no_duration_is_named_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; use"):
        words.parse_duration(text)


def test_the_age_of_a_time() -> None:
    assert words.ago(words.seconds_since("2026-11-22T18:57:00Z", NOW)) == "3m ago"
    assert words.seconds_since("2026-11-22T20:00:00+01:00", NOW) == 0.0
    assert words.ago(words.seconds_since(None, NOW)) == "-"
    assert words.seconds_since("yesterday", NOW) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;gotcha\x07", "\\x1b]0;gotcha\\x07"),
        ("a\tb\nc\rd", "a    b\\nc\\x0dd"),
        ("ab\u202edc", "ab\\u202edc"),
        ("\x9b31m", "\\x9b31m"),
        ("surrogate \udc80", "surrogate \\udc80"),
        ("Grüße 👋", "Grüße 👋"),
    ],
)
def test_text_of_others_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert words.safe(text) == shown


@given(st.text(alphabet=st.characters(), max_size=50))
def test_safe_text_is_printable_whatever_it_was(text: str) -> None:
    shown = words.safe(text)
    assert "\x1b" not in shown
    assert "\n" not in shown
    shown.encode("utf-8")
    assert words.safe(text, newlines=True).count("\n") == text.count("\n")
