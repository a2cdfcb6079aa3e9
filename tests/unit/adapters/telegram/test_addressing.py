"""Which messages of a group are for the bot."""

from __future__ import annotations

from typing import Any

import pytest
from harness.telegram import entities
from telegram import Message, User

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.telegram.addressing import is_addressed, quoted, without_address
from hermesd.adapters.telegram.options import read

ME = User(42, "Hermes", True, username="hermes_bot")
TOPIC = 5


def message(text: str, **more: Any) -> Message:
    shape = {
        "message_id": 9, "date": 1, "chat": {"id": -100, "type": "supergroup", "title": "G"},
        "from": {"id": 7, "is_bot": False, "first_name": "Ann"}, "text": text,
        "entities": entities.find(text, []), **more,
    }  # fmt: skip
    return Message.de_json(shape, None)


def by(user: int, **more: Any) -> dict[str, Any]:
    sender = {"id": user, "is_bot": True, "first_name": "x"}
    return {"message_id": 3, "date": 1, "chat": {"id": -100, "type": "supergroup"}, "from": sender, "text": "t", **more}


def addressed(sent: Message, **extra: Any) -> bool:
    return is_addressed(sent, ME, read(AdapterSettings("telegram", token="1:a", extra=extra)))


MENTION_BY_NAME = [{"type": "text_mention", "offset": 0, "length": 6, "user": ME.to_dict()}]


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (message("hello"), False),
        (message("@hermes_bot hello"), True),
        (message("hello @Hermes_Bot"), True),
        (message("@hermes_bottle hello"), False),
        (message("me@hermes_bot"), False),
        (message("Hermes, hello", entities=MENTION_BY_NAME), True),
        (message("/status"), True),
        (message("/status@hermes_bot"), True),
        (message("/status@HERMES_BOT now"), True),
        (message("/status@other_bot"), False),
        (message("see /status"), False),
        (message("yes", reply_to_message=by(42)), True),
        (message("yes", reply_to_message=by(43)), False),
        (
            message("yes", is_topic_message=True, message_thread_id=TOPIC,
                    reply_to_message=by(42, message_id=TOPIC, forum_topic_created={"name": "T", "icon_color": 1})),
            False,
        ),
    ],
)  # fmt: skip
def test_where_mentions_are_required(sent: Message, wanted: bool) -> None:
    assert addressed(sent, require_mention=True) is wanted


def test_a_command_for_another_bot_is_never_ours() -> None:
    assert not addressed(message("/status@other_bot"))
    assert not addressed(message("/status@other_bot"), free_response_chats=["-100"])


def test_everything_is_where_mentions_are_not_required() -> None:
    assert addressed(message("hello"))
    assert addressed(message("hello"), require_mention=True, free_response_chats=["-100"])
    assert addressed(message("hello", chat={"id": 7, "type": "private"}), require_mention=True)


def test_a_caption_counts_as_text() -> None:
    text = "@hermes_bot what is it?"
    photo = [{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1}]
    sent = message("", caption=text, caption_entities=entities.find(text, []), photo=photo)
    assert addressed(sent, require_mention=True)
    assert without_address(sent, ME) == "what is it?"
    assert addressed(message("", caption="oh hermes", photo=photo), require_mention=True, mention_patterns=["hermes"])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("@hermes_bot, hello", "hello"),
        ("😀 hello @hermes_bot", "😀 hello"),
        ("ask @hermes_bot about it", "ask @hermes_bot about it"),
        ("@hermes_bot @hermes_bot hi", "hi"),
        ("@hermes_bot", ""),
        ("@ann_bee hello", "@ann_bee hello"),
        ("half \ud83d of a pair @hermes_bot", "half \ufffd of a pair"),
    ],
)
def test_the_address_is_not_part_of_what_is_said(text: str, left: str) -> None:
    assert without_address(message(text), ME) == left


def test_what_opened_a_topic_is_not_quoted() -> None:
    opened = by(7, message_id=TOPIC)
    assert quoted(message("x", is_topic_message=True, message_thread_id=TOPIC, reply_to_message=opened)) is None
    other = message("x", is_topic_message=True, message_thread_id=TOPIC, reply_to_message=by(7))
    assert quoted(other) is not None
