"""Plans of a message, and the next one when Telegram refuses it."""

from __future__ import annotations

from typing import Any

import pytest
from telegram import error as tg

from hermesd.adapters.contract import AdapterSettings, Attachment, MenuEntry, Outbound, Question, Target
from hermesd.adapters.errors import Rejected
from hermesd.adapters.telegram import buttons, menu
from hermesd.adapters.telegram.calls import failure
from hermesd.adapters.telegram.options import read
from hermesd.adapters.telegram.outbound import Plan, file_arguments, plan, relent, text_arguments

OPTIONS = read(AdapterSettings("telegram", token="1:a"))
TOPIC = Target("telegram", "-100", "5", "9")


def made(message: Outbound, target: Target = TOPIC) -> Plan:
    return plan(target, message, int(target.chat_id))


def refusal(text: str) -> Any:
    return failure(tg.BadRequest(text))


def test_a_message_goes_to_its_thread_as_a_reply() -> None:
    arguments = text_arguments(made(Outbound("k", "hi")), OPTIONS)
    assert (arguments["chat_id"], arguments["message_thread_id"], arguments["text"]) == (-100, 5, "hi")
    assert arguments["reply_parameters"].message_id == 9
    assert arguments["reply_parameters"].allow_sending_without_reply
    assert not arguments["disable_notification"]


def test_each_refusal_has_one_other_way() -> None:
    voice = Attachment("/x/a.ogg", "a.ogg", kind="voice")
    first = made(Outbound("k", "*hi*", (voice,)))
    second = relent(first, refusal("Message thread not found"))
    assert second is not None
    assert file_arguments(second)["message_thread_id"] is None
    third = relent(second, refusal("Voice_messages_forbidden"))
    assert third is not None
    assert third.field == "document"
    fourth = relent(third, refusal("Can't parse entities"))
    assert fourth is not None
    assert (file_arguments(fourth)["caption"], file_arguments(fourth)["caption_entities"]) == ("*hi*", [])
    fifth = relent(fourth, failure(tg.ChatMigrated(-200)))
    assert fifth is not None
    assert file_arguments(fifth)["chat_id"] == -200
    for text in ("Message thread not found", "Voice_messages_forbidden", "Can't parse entities", "anything else"):
        assert relent(fifth, refusal(text)) is None
    assert relent(fifth, failure(tg.ChatMigrated(-200))) is None


def test_a_closed_topic_is_as_good_as_gone() -> None:
    assert relent(made(Outbound("k", "hi")), refusal("Topic_closed")) is not None
    assert relent(made(Outbound("k", "hi"), Target("telegram", "1")), refusal("Topic_closed")) is None


@pytest.mark.parametrize("ask", ["a" * 59, "é" * 30])
def test_a_question_whose_id_is_too_long_has_no_buttons(ask: str) -> None:
    with pytest.raises(Rejected, match="too long"):
        buttons.keyboard(Question(ask, ("yes",)))


def test_long_choices_have_rows_of_their_own() -> None:
    found = buttons.keyboard(Question("a", ("yes", "no", "always, and for every tool of this server", "never")))
    assert found is not None
    assert [[button.text for button in row] for row in found.inline_keyboard] == [
        ["yes", "no"], ["always, and for every tool of this server"], ["never"],
    ]  # fmt: skip
    for number, row in enumerate(found.inline_keyboard):
        data = str(row[0].callback_data)
        assert buttons.pressed(found, data) == ("a", [0, 2, 3][number], row[0].text)
    assert buttons.pressed(found, "ask:9:a") is None
    assert buttons.pressed(found, "other") is None
    assert buttons.pressed(None, "ask:0:a") is None


def test_a_menu_fits_telegram() -> None:
    entries = [MenuEntry(f"c{number}", "x" * 300) for number in range(120)]
    shown = menu.commands([MenuEntry("Reload-MCP", "", "[NAME]"), MenuEntry("x" * 33, "y"), *entries])
    assert len(shown) == 100
    assert shown[0] == ("reload_mcp", "[NAME] - ")
    assert all(1 <= len(text) <= 256 for _, text in shown)
