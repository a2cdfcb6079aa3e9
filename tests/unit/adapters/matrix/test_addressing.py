from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.matrix.addressing import Address, Me, Room, judge, mentions, without_mention
from hermesd.adapters.matrix.options import Options

ME = Me("@robo:example.org", "Robo Cop")
ROOM, DIRECT = Room("!r", direct=False), Room("!d", direct=True)


def decide(room: Room = ROOM, *, thread: str = "", mentioned: bool = False, joined: tuple[str, ...] = (), **how: Any):  # type: ignore[no-untyped-def]
    options = Options(homeserver="https://example.org", **how)
    return judge(options, room, event_id="$e", thread_id=thread, mentioned=mentioned, joined=joined)


class TestWhoIsAnswered:
    def test_a_room_asks_for_a_mention(self) -> None:
        assert decide() == "it does not mention us"
        assert decide(mentioned=True) == Address("$e", joins="$e")

    def test_a_direct_chat_does_not(self) -> None:
        assert decide(DIRECT) == Address("")
        assert decide(DIRECT, thread="$t") == Address("$t")

    def test_nor_does_a_free_room_a_thread_of_ours_or_a_bot_without_gating(self) -> None:
        assert decide(free_response_rooms=frozenset({"!r"})) == Address("$e", joins="$e")
        assert decide(free_response_rooms=frozenset({"!other"})) == "it does not mention us"
        assert decide(thread="$t", joined=("$t",)) == Address("$t")
        assert decide(thread="$t", joined=("$u",)) == "it does not mention us"
        assert decide(require_mention=False) == Address("$e", joins="$e")

    def test_a_room_that_is_not_on_the_list_is_not_answered_and_direct_chats_are(self) -> None:
        how: dict[str, Any] = {"allowed_rooms": frozenset({"!other"}), "mentioned": True}
        assert decide(**how) == "the room is not on the list of allowed rooms"
        assert decide(DIRECT, **how) == Address("")

    def test_threads(self) -> None:
        assert decide(mentioned=True, auto_thread=False) == Address("")
        assert decide(mentioned=True, thread="$t") == Address("$t", joins="$t")
        assert decide(DIRECT, mentioned=True) == Address("")
        assert decide(DIRECT, mentioned=True, dm_mention_threads=True) == Address("$e", joins="$e")
        assert decide(DIRECT, mentioned=True, dm_mention_threads=True, thread="$t") == Address("$t")


class TestMentions:
    @pytest.mark.parametrize(
        ("content", "body"),
        [
            ({"m.mentions": {"user_ids": ["@robo:example.org"]}}, "hey"),
            ({}, "robo cop: hey"),
            ({}, "hey Robo Cop!"),
            ({"m.mentions": {}}, "hey @robo:example.org, look"),
            ({"m.mentions": {}}, "@Robo look"),
            ({"m.mentions": {}, "formatted_body": '<a href="https://matrix.to/#/@robo:example.org">R</a>'}, "R"),
            ({"m.mentions": {}, "formatted_body": "<a href='https://matrix.to/#/%40robo%3Aexample.org'>R</a>"}, "R"),
            ({"m.mentions": {}, "formatted_body": '<a href="matrix:u/robo:example.org?action=chat">R</a>'}, "R"),
        ],
    )
    def test_these_are(self, content: dict[str, Any], body: str) -> None:
        assert mentions(ME, content, body)

    @pytest.mark.parametrize(
        ("content", "body"),
        [
            ({}, "hey"),
            ({"m.mentions": {"user_ids": ["@anna:example.org"], "room": True}}, "hey"),
            ({"m.mentions": {}}, "Robo Cop is a film"),
            ({}, "the RoboCops"),
            ({}, "@robo:elsewhere.org look"),
            ({}, "mail me@robo"),
            ({}, "@robot look"),
            ({"m.mentions": {"user_ids": "@robo:example.org"}}, "hey"),
            ({"m.mentions": {}, "formatted_body": '<a href="https://matrix.to/#/@robo:example.org.evil">R</a>'}, "R"),
            (
                {
                    "m.mentions": {},
                    "formatted_body": '<mx-reply><a href="https://matrix.to/#/@robo:example.org">R</a></mx-reply>x',
                },
                "x",
            ),
        ],
    )
    def test_these_are_not(self, content: dict[str, Any], body: str) -> None:
        assert not mentions(ME, content, body)

    def test_without_a_name_nothing_is_a_mention_by_name(self) -> None:
        assert not mentions(Me("@robo:example.org"), {}, "hey")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("@robo:example.org: /stop", "/stop"),
        ("@robo:example.org /stop", "/stop"),
        ("Robo Cop, look", "look"),
        ("@Robo Cop look", "look"),
        ("  @robo  look", "look"),
        ("@robo:example.org", ""),
        ("Robo Cops are many", "Robo Cops are many"),
        ("look, @robo:example.org", "look, @robo:example.org"),
    ],
)
def test_a_leading_mention_is_no_part_of_the_text(text: str, left: str) -> None:
    assert without_mention(ME, text) == left
