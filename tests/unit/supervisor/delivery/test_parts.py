from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Attachment, Capabilities, Outbound, Question
from hermesd.adapters.text import characters, utf8_bytes, utf16_units
from hermesd.supervisor.delivery.parts import EMPTY, PERHAPS_AGAIN, Parts, Piece, marked, parts_of

PICTURE = Attachment("/tmp/a.png", "a.png", "image/png", "image", size=10)
REPORT = Attachment("/tmp/b.pdf", "b.pdf", "application/pdf", size=2000)


def cut(text: str, files: tuple[Attachment, ...] = (), /, mode: str = "first", **facts: Any) -> Parts:
    return parts_of(Outbound("k", text, files), Capabilities(**facts), reply_to_mode=mode)


def texts(parts: Parts) -> list[str]:
    return [part.message.text for part in parts.parts]


def test_what_fits_is_one_part_with_the_key_of_the_message() -> None:
    message = Outbound("k", "hello", usage={"total_tokens": 3}, question=Question("a1", ("yes",)))
    [part] = parts_of(message, Capabilities(max_length=100)).parts
    assert part.message == message
    assert part.edits == ""


def test_what_is_too_long_is_cut_and_numbered_and_only_its_last_part_is_final() -> None:
    message = Outbound("k", "one two three " * 10, usage={"n": 1})
    found = [part.message for part in parts_of(message, Capabilities(max_length=60)).parts]
    assert [part.key for part in found] == ["k", "k:2", "k:3"]
    assert [part.final for part in found] == [False, False, True]
    assert [bool(part.usage) for part in found] == [False, False, True]
    assert [part.text[-7:] for part in found] == ["o (1/3)", "e (2/3)", "e (3/3)"]
    assert all(len(part.text) <= 60 for part in found)


def test_no_part_of_what_goes_on_is_final() -> None:
    message = Outbound("k", "x" * 100, (PICTURE,), final=False)
    assert not any(part.message.final for part in parts_of(message, Capabilities(max_length=60)).parts)


def test_the_number_does_not_stand_on_the_line_that_ends_a_fence() -> None:
    text = "```python\n" + "print(1)\n" * 10 + "```\nafter that " + "more " * 10
    first = texts(cut(text, max_length=120))[0]
    assert first.endswith("```\n(1/2)")


@pytest.mark.parametrize(
    ("mode", "quotes"),
    [("off", [False] * 3), ("first", [True, False, False]), ("all", [True] * 3)],
)
def test_which_parts_quote_the_question(mode: str, quotes: list[bool]) -> None:
    parts = cut("x" * 100, (PICTURE,), mode=mode, max_length=60, max_file_bytes=100).parts
    assert [part.message.quotes for part in parts] == quotes


def test_what_quotes_nothing_goes_on_quoting_nothing() -> None:
    [part] = parts_of(Outbound("k", "x", quotes=False), Capabilities(), reply_to_mode="all").parts
    assert not part.message.quotes


def test_each_file_is_a_part_of_its_own() -> None:
    parts = cut("Here they are.", (PICTURE, REPORT), max_length=100, max_file_bytes=5000).parts
    assert [(part.message.text, [file.name for file in part.message.files]) for part in parts] == [
        ("Here they are.", []),
        ("", ["a.png"]),
        ("", ["b.pdf"]),
    ]


def test_a_short_text_is_the_caption_of_the_first_file() -> None:
    parts = cut("Here they are.", (PICTURE, REPORT), max_length=100, max_file_bytes=5000, max_caption=20).parts
    assert [(part.message.text, part.message.files) for part in parts] == [
        ("Here they are.", (PICTURE,)),
        ("", (REPORT,)),
    ]
    assert texts(cut("x" * 21, (PICTURE,), max_length=100, max_file_bytes=5000, max_caption=20)) == ["x" * 21, ""]


def test_beside_a_voice_message_there_may_be_no_room_for_words() -> None:
    spoken = Attachment("/tmp/a.ogg", "a.ogg", "audio/ogg", "voice", size=10)
    facts = {"max_length": 100, "max_file_bytes": 5000, "max_caption": 20}
    assert texts(cut("Listen.", (spoken,), **facts)) == ["Listen."]
    assert texts(cut("Listen.", (spoken,), bare=frozenset({"voice"}), **facts)) == ["Listen.", ""]
    assert texts(cut("Look.", (PICTURE, spoken), bare=frozenset({"voice"}), **facts)) == ["Look.", ""]


def test_files_alone_have_no_text_part() -> None:
    [part] = cut("", (PICTURE,), max_length=100, max_file_bytes=5000).parts
    assert (part.message.text, part.message.files) == ("", (PICTURE,))


def test_files_that_the_platform_does_not_take_are_named() -> None:
    assert texts(cut("Here.", (PICTURE,), max_length=100)) == ["Here.\n[file a.png]"]
    [text, _] = texts(cut("Here.", (PICTURE, REPORT), max_length=200, max_file_bytes=100))
    assert text == "Here.\n[file b.pdf: not sent, 2000 bytes are more than the 100 that this platform takes]"


def test_a_message_without_anything_says_so() -> None:
    assert texts(cut(" \n", max_length=100)) == [EMPTY]


def test_a_question_stands_under_the_last_text() -> None:
    message = Outbound("k", "x" * 100, (PICTURE,), question=Question("a1", ("yes",)))
    parts = parts_of(message, Capabilities(max_length=60, max_file_bytes=100)).parts
    assert [part.message.question is not None for part in parts] == [False, True, False]


class TestWhatIsShownAlready:
    def parts(self, *pieces: Piece, files: tuple[Attachment, ...] = (), **facts: Any) -> Parts:
        message = Outbound("k", "".join(piece.text for piece in pieces), files)
        return parts_of(message, Capabilities(**({"max_length": 60, "max_file_bytes": 100} | facts)), pieces=pieces)

    def test_parts_take_the_place_of_what_is_shown_and_later_ones_are_sent(self) -> None:
        found = self.parts(Piece("x" * 150, ("m1", "m2")))
        assert [part.edits for part in found.parts] == ["m1", "m2", ""]
        assert found.surplus == ()

    def test_what_is_shown_and_has_no_text_is_left_over(self) -> None:
        found = self.parts(Piece("short", ("m1", "m2", "m3")))
        assert [part.edits for part in found.parts] == ["m1"]
        assert found.surplus == ("m2", "m3")

    def test_each_stretch_keeps_its_place(self) -> None:
        found = self.parts(Piece("Let me look.", ("m1",)), Piece("It rains.", ("m2",)))
        assert [(part.message.text, part.edits) for part in found.parts] == [
            ("Let me look.", "m1"),
            ("It rains.", "m2"),
        ]

    def test_a_text_that_is_shown_is_no_caption(self) -> None:
        found = self.parts(Piece("Here.", ("m1",)), files=(PICTURE,), max_caption=50)
        assert [(part.message.text, part.edits) for part in found.parts] == [("Here.", "m1"), ("", "")]

    def test_an_answer_of_files_alone_leaves_the_shown_text_over(self) -> None:
        found = self.parts(Piece("", ("m1",)), files=(PICTURE,))
        assert [part.edits for part in found.parts] == [""]
        assert found.surplus == ("m1",)


class TestMark:
    def test_there_is_room_for_it_in_every_part(self) -> None:
        facts = Capabilities(max_length=600)
        for part in parts_of(Outbound("k", "word " * 1000), facts).parts:
            again = marked(part.message, facts)
            assert again.text.startswith(PERHAPS_AGAIN)
            assert len(again.text) <= 600

    def test_a_platform_that_knows_a_message_again_needs_none(self) -> None:
        assert len(texts(cut("x" * 600, max_length=600, exact_resends=True))) == 1
        assert len(texts(cut("x" * 600, max_length=600))) == 2

    def test_it_is_left_out_where_there_is_no_room(self) -> None:
        message = Outbound("k", "x" * 50)
        assert marked(message, Capabilities(max_length=60)) == message
        file = Outbound("k", "", (PICTURE,))
        assert marked(file, Capabilities(max_length=60, max_file_bytes=10)) == file
        assert marked(file, Capabilities(max_caption=100, max_file_bytes=10)).text == PERHAPS_AGAIN


@given(
    text=st.text(alphabet="ab \n`~*é\U0001f600", max_size=400),
    limit=st.integers(min_value=48, max_value=200),
    unit=st.sampled_from((characters, utf16_units, utf8_bytes)),
    mode=st.sampled_from(("off", "first", "all")),
)
def test_every_part_fits_and_nothing_is_lost(text: str, limit: int, unit: Any, mode: str) -> None:
    parts = cut(text, mode=mode, max_length=limit, unit=unit).parts
    assert [part.message.key for part in parts] == ["k", *(f"k:{n}" for n in range(2, len(parts) + 1))]
    assert [part.message.final for part in parts] == [False] * (len(parts) - 1) + [True]
    assert sum(part.message.quotes for part in parts) == {"off": 0, "first": 1, "all": len(parts)}[mode]
    said = ""
    for number, part in enumerate(parts, 1):
        assert unit(part.message.text) <= limit
        body, ending = part.message.text, f"({number}/{len(parts)})"
        if len(parts) > 1:
            assert body.endswith(ending)
            body = body[: -len(ending)]
        said += body
    plain = re.compile(r"[^abé*\U0001f600]")
    if text.strip():
        assert plain.sub("", said) == plain.sub("", text)
    else:
        assert said == EMPTY
