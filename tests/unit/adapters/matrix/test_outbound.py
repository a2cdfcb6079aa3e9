from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Attachment, Outbound, Sticker, Target
from hermesd.adapters.matrix import outbound
from hermesd.adapters.matrix.outbound import EVENT_BYTES, MAX_LENGTH, size_of

ROOM = Target("matrix", "!r")
ASKED = Target("matrix", "!r", reply_to="$q")
THREAD = Target("matrix", "!r", thread_id="$t", reply_to="$q")


def test_plain_text_needs_no_html() -> None:
    assert outbound.text(Outbound("k", "plain"), ROOM) == {"msgtype": "m.text", "body": "plain", "m.mentions": {}}


class TestRelations:
    def test_a_quote_only_where_it_is_wanted(self) -> None:
        assert outbound.relation(Outbound("k", "x"), ASKED) == {"m.relates_to": {"m.in_reply_to": {"event_id": "$q"}}}
        assert outbound.relation(Outbound("k", "x", quotes=False), ASKED) == {}
        assert outbound.relation(Outbound("k", "x"), ROOM) == {}

    @pytest.mark.parametrize(
        ("target", "quotes", "falls_back", "quoted"),
        [
            (THREAD, True, False, "$q"), (THREAD, False, True, "$q"),
            (Target("matrix", "!r", "$t", "$t"), True, True, "$t"), (Target("matrix", "!r", "$t"), True, True, "$t"),
        ],
    )  # fmt: skip
    def test_in_a_thread(self, target: Target, quotes: bool, falls_back: bool, quoted: str) -> None:
        assert outbound.relation(Outbound("k", "x", quotes=quotes), target)["m.relates_to"] == {
            "rel_type": "m.thread", "event_id": "$t", "is_falling_back": falls_back,
            "m.in_reply_to": {"event_id": quoted},
        }  # fmt: skip


def test_an_edit_names_what_it_replaces_and_shows_old_clients_a_star() -> None:
    assert outbound.edit(Outbound("k", "*new*"), "$m") == {
        "msgtype": "m.text", "body": "* *new*", "m.mentions": {},
        "format": "org.matrix.custom.html", "formatted_body": "* <em>new</em>",
        "m.new_content": {
            "msgtype": "m.text", "body": "*new*", "m.mentions": {},
            "format": "org.matrix.custom.html", "formatted_body": "<em>new</em>",
        },
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$m"},
    }  # fmt: skip


def test_a_sticker_says_what_it_shows() -> None:
    file = Attachment("/x", "x.webp", "image/webp", "sticker", sticker=Sticker("u", "🦊"))
    content = outbound.sticker(Outbound("k", ""), ROOM, file, {"url": "mxc://a/b"})
    assert content == {"body": "🦊", "info": {"mimetype": "image/webp"}, "url": "mxc://a/b"}


class TestSize:
    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n"\\&<>|*`'), min_size=1))
    def test_whatever_has_the_allowed_length_fits_also_as_an_edit(self, piece: str) -> None:
        text = piece * (MAX_LENGTH // len(piece.encode()))
        message = Outbound("k", text)
        edited, new = outbound.edit(message, "$" + "x" * 43), outbound.text(message, THREAD)
        assert max(size_of(edited), size_of(new)) <= EVENT_BYTES
        assert (edited["body"], new["body"]) == (f"* {text}", text)

    def test_html_that_is_too_long_is_left_out_and_the_text_stays(self) -> None:
        table = "|" + "a|" * 90 + "\n|" + "-|" * 90 + "\n" + "|\n" * 100
        content = outbound.edit(Outbound("k", table), "$m")
        assert "formatted_body" not in content
        assert content["m.new_content"] == {"msgtype": "m.text", "body": table, "m.mentions": {}}


def test_a_transaction_is_the_same_for_the_same_parts_only() -> None:
    made = {
        outbound.transaction(*parts) for parts in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("a", "b\ud800"))
    }
    assert len(made) == 5
    assert outbound.transaction("a", "b") in made
    assert all(len(one) == 40 and one.isalnum() for one in made)
    assert json.dumps(sorted(made))


def test_what_a_server_would_refuse_is_left_out() -> None:
    dirty, said = "a\x00b\x1b[31m *c*\ud800\r\n", "ab[31m *c*\ufffd\n"
    message = Outbound("k", dirty)
    assert outbound.text(message, ROOM)["body"] == said
    assert outbound.edit(message, "$e")["m.new_content"]["body"] == said
    file = outbound.file(message, ROOM, Attachment("/x", "x.png", "image/png", "image"), {"url": "mxc://h/1"})
    assert (file["body"], "<em>c</em>" in file["formatted_body"]) == (said, True)
