from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.delivery.directives import Reply, Screen, Wanted, looks_like_image, read, without_lines


def media(*paths: str) -> tuple[Wanted, ...]:
    return tuple(Wanted(path, "media") for path in paths)


@pytest.mark.parametrize(
    ("text", "shown", "wanted"),
    [
        ("Here it is.\nMEDIA:/tmp/a.png", "Here it is.", media("/tmp/a.png")),
        ("MEDIA:/tmp/a.png\nHere it is.", "Here it is.", media("/tmp/a.png")),
        ("Look: MEDIA: ~/b.pdf!", "Look: !", media("~/b.pdf")),
        ("MEDIA:/tmp/my holiday.jpg and more", " and more", media("/tmp/my holiday.jpg")),
        ("MEDIA:/tmp/report.pdf, then pic.png", ", then pic.png", media("/tmp/report.pdf")),
        ('MEDIA:"/tmp/odd name.tar.xz"', "", media("/tmp/odd name.tar.xz")),
        ("MEDIA:`/tmp/odd name`", "", media("/tmp/odd name")),
        ("`MEDIA:/tmp/a.png`", "", media("/tmp/a.png")),
        ("- MEDIA:/tmp/a.png\n- MEDIA:/tmp/b.png\nBoth.", "Both.", media("/tmp/a.png", "/tmp/b.png")),
        ("MEDIA:/tmp/Makefile.", ".", media("/tmp/Makefile")),
        ("MEDIA:a.png is relative", "MEDIA:a.png is relative", ()),
        ("Write MEDIA:<path> to send", "Write MEDIA:<path> to send", ()),
        ("media:/tmp/a.png", "media:/tmp/a.png", ()),
        ("```\nMEDIA:/tmp/a.png\n```", "```\nMEDIA:/tmp/a.png\n```", ()),
        ("Say `x MEDIA:/tmp/a.png y`.", "Say `x MEDIA:/tmp/a.png y`.", ()),
        ("a\n\n\n\n\nb", "a\n\nb", ()),
        ("```\na\n\n\n\nb\n```", "```\na\n\n\n\nb\n```", ()),
        ("one\nMEDIA:/tmp/a.png\ntwo", "one\ntwo", media("/tmp/a.png")),
    ],
)  # fmt: skip
def test_media(text: str, shown: str, wanted: tuple[Wanted, ...]) -> None:
    assert read(text) == Reply(shown, wanted)


@pytest.mark.parametrize(
    ("text", "shown", "wanted"),
    [
        (
            "See ![a cat](https://x.org/cat.png) there",
            "See  there",
            [Wanted("https://x.org/cat.png", "image", "a cat")],
        ),
        ('![c](https://x.org/cat.JPG?w=3 "t")', "", [Wanted("https://x.org/cat.JPG?w=3", "image", "c")]),
        ("![c](https://v3.fal.media/files/abc)", "", [Wanted("https://v3.fal.media/files/abc", "image", "c")]),
        ("![c](https://x.org/page)", "![c](https://x.org/page)", []),
        ("![c](http://x.org/a.gif)", "", [Wanted("http://x.org/a.gif", "image", "c")]),
        ("![c](file:///etc/passwd.png)", "![c](file:///etc/passwd.png)", []),
        ('<img alt="c" src="https://x.org/any">', "", [Wanted("https://x.org/any", "image")]),
        ("`![a](https://x.org/cat.png)`", "`![a](https://x.org/cat.png)`", []),
    ],
)
def test_images_on_the_web(text: str, shown: str, wanted: list[Wanted]) -> None:
    assert read(text) == Reply(shown, tuple(wanted))
    assert read(text, images=False).text == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I wrote /tmp/plot.png for you", ["/tmp/plot.png"]),
        ("~/clips/a.mp4\nand /b/c.webm.", ["~/clips/a.mp4", "/b/c.webm"]),
        ("https://x.org/tmp/plot.png", []),
        ("a/b/plot.png and ./plot.png and C:/plot.png", []),
        ("`/tmp/plot.png`", []),
        ("```sh\ncp /tmp/plot.png .\n```", []),
        ("/tmp/notes.txt", []),
    ],
)
def test_local_paths_are_found_and_stay_in_the_text(text: str, found: list[str]) -> None:
    reply = read(text)
    assert reply.text == text
    assert [wanted.source for wanted in reply.wanted] == found
    assert all(wanted.kind == "local" for wanted in reply.wanted)


def test_a_path_that_is_sent_is_taken_out_where_it_has_a_line_for_itself() -> None:
    text = "Here:\n- /tmp/a.png\nsaved as /tmp/a.png\n```\n/tmp/a.png\n```"
    assert without_lines(text, ["/tmp/a.png"]) == "Here:\nsaved as /tmp/a.png\n```\n/tmp/a.png\n```"


def test_voice() -> None:
    assert read("[[audio_as_voice]]\nMEDIA:/tmp/a.mp3\nHello.") == Reply("Hello.", media("/tmp/a.mp3"), True)
    assert read("`[[audio_as_voice]]`") == Reply("`[[audio_as_voice]]`")


@pytest.mark.parametrize("tag", ["think", "thinking", "thought", "reasoning", "REASONING_SCRATCHPAD", "THINKING"])
class TestThoughts:
    def test_are_hidden_at_the_beginning_of_a_line(self, tag: str) -> None:
        assert read(f"<{tag}>secret\nplan</{tag}>\n\nHello") == Reply("Hello")
        assert read(f"One.\n  <{tag}>secret</{tag}>Two.") == Reply("One.\nTwo.")

    def test_are_text_elsewhere(self, tag: str) -> None:
        for text in (f"The tag <{tag}> begins a thought.", f"`<{tag}>x</{tag}>`", f"```\n<{tag}>\n```"):
            assert read(text).text == text

    def test_that_never_end_hide_what_follows_unless_it_is_all_there_is(self, tag: str) -> None:
        assert read(f"Hello\n<{tag}>secret") == Reply("Hello")
        assert read(f"<{tag}>all there is") == Reply("all there is")

    def test_ask_for_no_files(self, tag: str) -> None:
        assert read(f"<{tag}>MEDIA:/tmp/a.png</{tag}>Hello") == Reply("Hello")


class TestAsItComes:
    def shown(self, *texts: str) -> list[str]:
        screen = Screen()
        return [*(screen.feed(text) for text in texts), screen.pause()]

    def test_text_is_shown_at_once(self) -> None:
        assert self.shown("Hel", "lo ", "there") == ["Hel", "lo ", "there", ""]

    def test_what_may_become_a_directive_is_held_back(self) -> None:
        assert self.shown("Look: ME", "DIA", ":/tmp/a", ".png", "\nmore") == ["Look: ", "", "", "", "\nmore", ""]
        assert self.shown("Look: ME", "N at work") == ["Look: ", "MEN at work", ""]

    def test_what_may_become_a_thought_is_held_back(self) -> None:
        assert self.shown("<thi", "nk>x</th", "ink>", "\nHello") == ["", "", "", "Hello", ""]
        assert self.shown("<thi", "s> is none") == ["", "<this> is none", ""]

    def test_a_pause_shows_what_was_held_back(self) -> None:
        assert self.shown("Look: ME") == ["Look: ", "ME"]

    def test_after_a_pause_a_line_begins(self) -> None:
        screen = Screen()
        assert screen.feed("One") + screen.pause() == "One"
        assert screen.feed("\n\n<think>x</think>Two") == "Two"


WORDS = (
    "Hello ", "MEDIA:/tmp/a.png", "MEDIA:", "ME", "\n", "\n\n\n", "<think>", "</think>", "<thi", "```\n", "```", "`",
    " ", "![a](https://x.org/c.png)", "![", "<img src='https://x.org/c'>", "<", "[[audio_as_voice]]", "[[", "- ",
    "/tmp/b.png", "\t", "'", "        ", "<IMG ", "Media:/c.PNG", "MEDIA:/d e.PNG", "é\U0001f600", "~~~py\n",
    "</THINK>", "<Reasoning>", "</reasoning>",
)  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join), st.data())
def test_it_reads_the_same_however_it_is_cut(text: str, data: st.DataObject) -> None:
    whole = Screen()
    expected = whole.feed(text) + whole.pause()
    pieces, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    screen = Screen()
    shown = "".join(screen.feed(piece) for piece in pieces) + screen.pause()
    assert shown == expected
    assert (screen.wanted, screen.voice) == (whole.wanted, whole.voice)


@given(st.text(alphabet="ab <>/`\n!", max_size=200))
def test_text_without_directives_is_all_shown(text: str) -> None:
    assert "".join(read(text).text.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("url", "is_one"),
    [("https://x/a.webp", True), ("https://x/a.webp.html", False), ("https://[bad", False), ("https://x", False)],
)
def test_what_looks_like_an_image(url: str, is_one: bool) -> None:
    assert looks_like_image(url) is is_one


@pytest.mark.parametrize(
    "piece",
    ["MEDIA:/a ", "MEDIA:/", "![", "![](http://x", "<img ", "` `` ", "`" * 9 + " ", "/a", " /-", "<think>", "["],
)
def test_no_text_costs_more_than_its_length(piece: str) -> None:
    text = (piece * 4000)[:4000]
    began = time.process_time()
    read("\n".join([text] * 8))
    assert time.process_time() - began < 5.0  # it takes a tenth of that; what explodes takes minutes
