"""Updates that become something else than a person's plain message; the rest is in tests/contract/telegram."""

from __future__ import annotations

from typing import Any

import pytest
from telegram import Update, User

from hermesd.adapters.contract import AdapterSettings, Inbound, Press
from hermesd.adapters.telegram.inbound import Passed, translate
from hermesd.adapters.telegram.options import read

ME = User(42, "Hermes", True, username="hermes_bot")
OPTIONS = read(AdapterSettings("telegram", token="1:a"))
ANN = {"id": 7, "is_bot": False, "first_name": "Ann", "last_name": "Bee"}
GROUP = {"id": -100, "type": "supergroup", "title": "Kitchen"}


def update(kind: str = "message", **fields: Any) -> Inbound | Press | Passed:
    shape = {"message_id": 9, "date": 1_760_000_000, "chat": GROUP, "from": ANN, **fields}
    return translate(Update.de_json({"update_id": 1, kind: shape}, None), ME, "telegram", OPTIONS)


def inbound(kind: str = "message", **fields: Any) -> Inbound:
    found = update(kind, **fields)
    assert isinstance(found, Inbound), found
    return found


def test_who_writes_as_a_group_or_channel_is_that_and_nobody_else() -> None:
    anonymous = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
    found = inbound(**{"from": anonymous}, sender_chat=GROUP, text="hello")
    assert (found.user_id, found.user_name) == ("-100", "Kitchen")


def test_a_channel_has_no_person() -> None:
    channel = {"id": -100200, "type": "channel", "title": "News"}
    found = inbound("channel_post", **{"from": None}, chat=channel, sender_chat=channel, text="hello")
    assert (found.chat_type, found.user_id) == ("channel", "-100200")
    alone = inbound("channel_post", **{"from": None}, chat=channel, text="hello")
    assert alone.user_id == ""  # which is never allowed


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"from": {**ANN, "is_bot": True}, "text": "hello"}, "another bot"),
        ({"new_chat_title": "x"}, "service message"),
        ({"dice": {"emoji": "🎲", "value": 3}}, "not supported"),
        ({"text": "/x@other_bot", "entities": [{"type": "bot_command", "offset": 0, "length": 12}]}, "not addressed"),
    ],
)
def test_what_is_passed_over(fields: dict[str, Any], reason: str) -> None:
    found = update(**fields)
    assert isinstance(found, Passed)
    assert reason in found.reason


def test_an_edited_message_is_not_asked_for_and_passed_over() -> None:
    assert isinstance(update("edited_message", text="hello"), Passed)


@pytest.mark.parametrize(
    ("text", "read_as"), [("/start", "/help"), ("/start ref_42", "/help"), ("/started", "/started")]
)
def test_the_first_press_of_start_asks_for_help(text: str, read_as: str) -> None:
    assert inbound(text=text).text == read_as


def test_a_chain_of_replies_is_no_thread() -> None:
    assert inbound(text="x", message_thread_id=5).thread_id == ""
    assert inbound(text="x", message_thread_id=5, is_topic_message=True).thread_id == "5"


def test_places_and_people_are_told_in_words() -> None:
    place = {"latitude": 52.5, "longitude": 13.4}
    assert inbound(location=place).text == "[location: 52.5, 13.4]"
    venue = {"location": place, "title": "Bar", "address": "Street 1"}
    assert inbound(location=place, venue=venue).text == "[location: Bar, Street 1 (52.5, 13.4)]"
    contact = {"phone_number": "+49", "first_name": "Bob"}
    assert inbound(contact=contact).text == "[contact: Bob, +49]"


def test_the_largest_size_of_a_photo_is_the_photo() -> None:
    sizes = [
        {"file_id": f"f{width}", "file_unique_id": "u", "width": width, "height": width, "file_size": width}
        for width in (90, 1280, 320)
    ]
    [file] = inbound(photo=sizes, caption="see").attachments
    assert (file.remote, file.size, file.kind) == ("f1280", 1280, "image")


def test_names_and_texts_are_clean() -> None:
    found = inbound(
        text="a\u0000b\u202e", chat={**GROUP, "title": "K\u0007"}, **{"from": {**ANN, "first_name": "A\u001b"}}
    )
    assert (found.text, found.chat_name, found.user_name) == ("ab\u202e", "K", "A Bee")


def test_a_press_says_who_where_and_what() -> None:
    markup = {"inline_keyboard": [[{"text": "yes", "callback_data": "ask:0:abc:d"}]]}
    message = {"message_id": 3, "date": 1, "chat": GROUP, "text": "?", "reply_markup": markup}
    query = {"id": "1", "from": ANN, "chat_instance": "2", "message": message, "data": "ask:0:abc:d"}
    found = translate(Update.de_json({"update_id": 1, "callback_query": query}, None), ME, "telegram", OPTIONS)
    assert found == Press("telegram", "-100", "3", "7", "abc:d", "yes", user_name="Ann Bee", number=0)
    forged = {**query, "data": "ask:1:abc:d"}
    assert isinstance(
        translate(Update.de_json({"update_id": 1, "callback_query": forged}, None), ME, "telegram", OPTIONS), Passed
    )
