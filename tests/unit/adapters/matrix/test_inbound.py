from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Inbound
from hermesd.adapters.matrix.addressing import Me, Room
from hermesd.adapters.matrix.inbound import message, quote_of, replied_to, split_fallback, thread_of, why_not
from hermesd.adapters.matrix.options import Options

ME = Me("@robo:example.org", "Robo")
OPTIONS = Options(homeserver="https://example.org")
DIRECT = Room("!d", direct=True, name="Ann\x1ba")


def event(kind: str = "m.room.message", **content: Any) -> dict[str, Any]:
    return {
        "type": kind, "event_id": "$e", "sender": "@anna:example.org", "room_id": "!d",
        "origin_server_ts": 1_700_000_000_500, "content": content,
    }  # fmt: skip


def read(given_event: dict[str, Any], room: Room = DIRECT) -> Inbound | str:
    if reason := why_not(given_event, ME):
        return reason
    made = message(
        given_event, platform="matrix", me=ME, room=room, options=OPTIONS, joined=(), sender_name="Anna\x00"
    )  # fmt: skip
    return made if isinstance(made, str) else made[0]


def taken(given_event: dict[str, Any]) -> Inbound:
    made = read(given_event)
    assert isinstance(made, Inbound), made
    return made


def test_a_message_of_text() -> None:
    made = taken(event(msgtype="m.text", body="a\x00b\r\nc \ud800"))
    assert made == Inbound(
        platform="matrix", chat_id="!d", message_id="$e", user_id="@anna:example.org", text="ab\nc \ufffd",
        user_name="Anna", chat_type="dm", chat_name="Anna", sent_at=1_700_000_000.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given_event", "why"),
    [
        ({**event(msgtype="m.text", body="x"), "sender": ME.user_id}, "it is our own"),
        (event("m.room.topic", topic="x"), "it is no message"),
        ({**event(msgtype="m.text", body="x"), "state_key": ""}, "it is state of the room"),
        (event(), "it was taken back"),
        (event(msgtype="m.notice", body="x"), "it is a notice"),
        (event(body="x"), "it is a notice"),
        (event(msgtype="m.key.verification.request", body="x"), "it is a notice"),
        (event(msgtype="m.text", body="x", **{"m.relates_to": {"rel_type": "m.replace"}}), "it changes an earlier"),
        (event(msgtype="m.text", body=" \n"), "it says nothing"),
        (event(msgtype="m.image", body="x", url="https://example.org/x.png") | {"event_id": ""}, "it has no id"),
    ],
)
def test_what_is_no_message_says_why(given_event: dict[str, Any], why: str) -> None:
    found = read(given_event)
    assert isinstance(found, str)
    assert found.startswith(why)


def test_an_emote_and_a_place() -> None:
    assert taken(event(msgtype="m.emote", body="waves")).text == "* waves"
    assert taken(event(msgtype="m.location", body="Here", geo_uri="geo:1,2")).text == "Here geo:1,2"


def test_a_mention_in_a_room_is_left_out_so_that_a_command_is_one() -> None:
    content = {"msgtype": "m.text", "body": "Robo: /stop", "m.mentions": {"user_ids": [ME.user_id]}}
    made = read(event(**content), Room("!r", direct=False))
    assert isinstance(made, Inbound)
    assert (made.text, made.chat_type, made.thread_id) == ("/stop", "group", "$e")


class TestRelations:
    def test_a_thread_and_a_reply_in_it(self) -> None:
        relation = {"rel_type": "m.thread", "event_id": "$t", "m.in_reply_to": {"event_id": "$q"}}
        given_event = event(msgtype="m.text", body="x", **{"m.relates_to": relation})
        assert (thread_of(given_event), replied_to(given_event)) == ("$t", "$q")
        relation["is_falling_back"] = True
        assert (thread_of(given_event), replied_to(given_event)) == ("$t", "")

    def test_a_fallback_is_split_off(self) -> None:
        body = "> <@a:b> one\n> two\n>\n> three\n\nmine\n> and this is mine, too"
        assert split_fallback(body) == ("mine\n> and this is mine, too", "one\ntwo\n\nthree")
        assert split_fallback("> * <@a:b> waves\n\nhi") == ("hi", "waves")

    @pytest.mark.parametrize("body", ["> just a quote\n\ntext", "plain", "", "> <@a:b> no end", "<@a:b> x\n\ny"])
    def test_what_is_no_fallback_stays(self, body: str) -> None:
        assert split_fallback(body) == (body, "")

    def test_a_quote_at_the_start_of_no_reply_is_text(self) -> None:
        assert taken(event(msgtype="m.text", body="> <@a:b> one\n\nmine")).text == "> <@a:b> one\n\nmine"

    def test_a_quoted_event_in_short(self) -> None:
        assert quote_of(event(msgtype="m.text", body="> <@a:b> older\n\n" + "x" * 5000)) == "x" * 2000
        assert quote_of(event()) == ""


class TestFiles:
    def test_an_encrypted_one_keeps_its_keys(self) -> None:
        keys = {"url": "mxc://a/b", "key": {"k": "K"}, "iv": "I", "hashes": {"sha256": "H"}}
        [file] = taken(event(msgtype="m.image", body="x.png", file=keys)).attachments
        assert json.loads(file.remote) == keys
        assert (file.name, file.mime, file.kind) == ("x.png", "image/png", "image")

    @pytest.mark.parametrize("size", [-5, True, "7", None, 1.5])
    def test_a_size_that_is_none_is_unknown(self, size: object) -> None:
        [file] = taken(event(msgtype="m.file", body="x", url="mxc://a/b", info={"size": size})).attachments
        assert file.size == 0

    def test_an_address_outside_of_the_store_is_no_file(self) -> None:
        made = taken(event(msgtype="m.image", body="x.png", url="http://169.254.169.254/x.png"))
        assert made.attachments == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "msgtype", "body", "m.relates_to", "m.mentions", "formatted_body", "url", "file", "info", "filename", "geo_uri",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), JSON), JSON, st.sampled_from(["m.room.message", "m.sticker"]))
def test_no_event_whatever_breaks_it(content: dict[str, Any], stamp: Any, kind: str) -> None:
    content.setdefault("msgtype", "m.image")
    made = read({**event(kind, **content), "origin_server_ts": stamp})
    if isinstance(made, Inbound):
        assert made.text.isprintable() or all(
            char.isprintable() or char in "\n\t" or ord(char) > 159 for char in made.text
        )
        assert all(file.path == "" for file in made.attachments)
