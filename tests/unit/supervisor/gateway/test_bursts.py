"""Which messages are one, and for how long more of them is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.contract import Attachment, Bursts, Inbound
from hermesd.adapters.text import characters, utf16_units
from hermesd.supervisor.gateway import bursts

B = Bursts(cut_from=10)


def said(text: str = "hello", **more: Any) -> Inbound:
    return Inbound("telegram", "c", more.pop("message_id", "m"), more.pop("user_id", "u"), text, **more)


@pytest.mark.parametrize(
    ("message", "waited", "seconds"),
    [
        (said("short"), 0.0, 0.6),
        (said("x" * 10), 0.0, 2.0),
        (said("x" * 9), 0.0, 0.6),
        (said("", album="a"), 0.0, 0.8),
        (said("x" * 10, album="a"), 0.0, 0.8),
        (said("x" * 10), 9.0, 1.0),
        (said("short"), 10.5, 0.0),
    ],
)
def test_patience(message: Inbound, waited: float, seconds: float) -> None:
    assert bursts.patience(B, characters, message, waited) == pytest.approx(seconds)


def test_a_cut_text_is_measured_as_its_platform_does() -> None:
    assert bursts.patience(B, utf16_units, said("😀" * 5), 0.0) == 2.0


@pytest.mark.parametrize(
    ("other", "together"),
    [
        (said("more"), True),
        (said("more", user_id="v"), False),
        (said("more", thread_id="t"), False),
        (said("more", album="a"), False),
        (said("more", reply_to_id="x"), False),
    ],
)
def test_what_belongs_together(other: Inbound, together: bool) -> None:
    assert bursts.together(B, characters, [said(), other, said(user_id="w")]) == 1 + together


def test_texts_that_are_not_waited_for_stand_for_themselves_and_albums_are_one_all_the_same() -> None:
    off = Bursts(text=0.0)
    assert bursts.together(off, characters, [said("a"), said("b")]) == 1
    assert bursts.together(off, characters, [said("a", album="x"), said("b", album="x")]) == 2


@pytest.mark.parametrize(
    ("texts", "times", "count"),
    [
        (("one", "two", "three"), (100.0, 100.5, 102.0), 3),
        (("one", "two", "three"), (100.0, 3700.0, 3700.5), 1),
        (("one", "two", "three"), (100.0, 101.0, 3700.0), 2),
        (("x" * 10, "rest"), (100.0, 103.0), 2),
        (("one", "two"), (100.0, 103.0), 1),
        (("one", "two"), (0.0, 3700.0), 2),
        (("one", "two"), (100.0, 99.0), 2),
    ],
)
def test_what_was_written_hours_apart_is_not_one_because_it_came_at_once(
    texts: tuple[str, ...], times: tuple[float, ...], count: int
) -> None:
    messages = [said(text, sent_at=time) for text, time in zip(texts, times, strict=True)]
    assert bursts.together(B, characters, messages) == count


def test_an_album_is_one_however_long_its_pieces_take() -> None:
    pieces = [said("a", album="x", sent_at=100.0), said("b", album="x", sent_at=160.0)]
    assert bursts.together(B, characters, pieces) == 2


def test_lines_become_one_text_and_the_first_message_stays() -> None:
    whole = bursts.merged([said("a", message_id="1"), said("b", message_id="2"), said("a", message_id="3")])
    assert (whole.text, whole.message_id) == ("a\nb\na", "1")


def test_an_album_is_one_message_and_its_caption_comes_once() -> None:
    files = [Attachment("", f"{n}.png", remote=str(n)) for n in range(3)]
    pieces = [said(text, album="a", attachments=(file,)) for text, file in zip(("us", "", "us"), files, strict=True)]
    whole = bursts.merged(pieces)
    assert (whole.text, whole.attachments) == ("us", tuple(files))
