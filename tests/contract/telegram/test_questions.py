"""A question's buttons: shown, pressed, answered, settled."""

from __future__ import annotations

from harness.telegram.core import Core
from harness.telegram.emulator import Emulator

from hermesd.adapters.contract import Outbound, Pressed, Question, Target

from .conftest import Connect

ASK = "8c0d5c1e9b5d4f1c9e40-1"


def question(*choices: str) -> Outbound:
    return Outbound(key="q", text="Run it?", kind="question", question=Question(ASK, choices))


async def test_a_press_reaches_the_core_and_is_answered(telegram: Emulator, core: Core, connect: Connect) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    adapter = await connect()
    target = Target("telegram", str(chat.id))
    sent = await adapter.send(target, question("once", "always", "deny"))
    rows = chat.messages[int(sent.message_id)].markup["inline_keyboard"]  # type: ignore[index]
    assert [[button["text"] for button in row] for row in rows] == [["once", "always", "deny"]]
    core.verdict = Pressed(True, "always, said Ann")
    query = telegram.press(ann, chat, int(sent.message_id), "always")
    await core.until(lambda: core.presses)
    press = core.presses[0]
    assert (press.ask, press.choice, press.user_id, press.user_name) == (ASK, "always", str(ann.id), "Ann")
    assert (press.chat_id, press.message_id) == (str(chat.id), sent.message_id)
    answered = await telegram.wait_async(lambda: telegram.answered(query))
    assert answered == {"text": "always, said Ann", "alert": False}
    await adapter.settle(target, sent.message_id, "Run it? always, said Ann")
    message = chat.messages[int(sent.message_id)]
    assert (message.text, message.markup) == ("Run it? always, said Ann", None)
    await adapter.settle(target, sent.message_id, "Run it? always, said Ann")


async def test_a_choice_is_known_by_its_number_where_telegram_shows_it_otherwise(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    adapter = await connect()
    sent = await adapter.send(Target("telegram", str(chat.id)), question("yes", "not  now,\nlater"))
    telegram.press(ann, chat, int(sent.message_id), "not now, later")
    await core.until(lambda: core.presses)
    assert (core.presses[0].ask, core.presses[0].number) == (ASK, 1)


async def test_one_who_may_not_press_is_told_so(telegram: Emulator, core: Core, connect: Connect) -> None:
    eve = telegram.user("Eve")
    group = telegram.group()
    adapter = await connect()
    sent = await adapter.send(Target("telegram", str(group.id)), question("yes", "no"))
    core.verdict = Pressed(False, "This is not yours to answer.")
    query = telegram.press(eve, group, int(sent.message_id), "yes")
    answered = await telegram.wait_async(lambda: telegram.answered(query))
    assert answered == {"text": "This is not yours to answer.", "alert": True}


async def test_a_press_counts_after_a_restart(telegram: Emulator, core: Core, connect: Connect) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    first = await connect()
    sent = await first.send(Target("telegram", str(chat.id)), question("yes", "no"))
    await first.stop()
    telegram.press(ann, chat, int(sent.message_id), "no")
    await connect()
    await core.until(lambda: core.presses)
    assert core.presses[0].choice == "no"


async def test_what_is_no_button_of_ours_is_not_believed_and_stops_turning(
    telegram: Emulator, core: Core, connect: Connect
) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    adapter = await connect()
    sent = await adapter.send(Target("telegram", str(chat.id)), question("yes", "no"))
    forged = telegram.press_data(ann, chat, int(sent.message_id), f"ask:7:{ASK}")
    await telegram.wait_async(lambda: telegram.answered(forged))
    chat.messages[int(sent.message_id)].deleted = True
    late = telegram.press_data(ann, chat, int(sent.message_id), f"ask:0:{ASK}")
    await telegram.wait_async(lambda: telegram.answered(late))
    assert core.presses == []


async def test_a_question_without_choices_has_no_buttons(telegram: Emulator, core: Core, connect: Connect) -> None:
    chat = telegram.private(telegram.user("Ann"))
    adapter = await connect()
    sent = await adapter.send(Target("telegram", str(chat.id)), question())
    assert chat.messages[int(sent.message_id)].markup is None
