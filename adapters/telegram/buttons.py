"""A question's choices as an inline keyboard, and which of them was pressed. Pure.

Nothing is remembered here: what a button stands for is in the message itself, so that a press counts also after a
restart.
"""

from __future__ import annotations

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

from hermesd.adapters.contract import Question
from hermesd.adapters.errors import Rejected

DATA_LIMIT = 64  # bytes of callback_data: core.telegram.org/bots/api#inlinekeyboardbutton
ROW_WIDTH = 30  # characters that a phone shows side by side
_PREFIX = "ask"


def keyboard(question: Question | None) -> InlineKeyboardMarkup | None:
    """None for a question without choices, which is answered by text. Raises `Rejected` for an id that is too long."""
    if question is None or not question.choices:
        return None
    rows: list[list[InlineKeyboardButton]] = []
    width = ROW_WIDTH
    for number, choice in enumerate(question.choices):
        data = f"{_PREFIX}:{number}:{question.ask}"
        if len(data.encode()) > DATA_LIMIT:
            raise Rejected(f"cannot show buttons: the question's id {question.ask!r} is too long for Telegram")
        label = " ".join(choice.split()) or "-"
        width += len(label) + 2
        if width > ROW_WIDTH:
            rows.append([])
            width = len(label) + 2
        rows[-1].append(InlineKeyboardButton(label, callback_data=data))
    return InlineKeyboardMarkup(rows)


def pressed(markup: InlineKeyboardMarkup | None, data: str) -> tuple[str, int, str] | None:
    """(the question's id, the choice's number, its label) of a button that is under its message; None for any other
    data. The label has only single blanks, which the choice need not.
    """
    prefix, _, rest = data.partition(":")
    number, _, ask = rest.partition(":")
    if prefix != _PREFIX or not ask or not number.isdecimal() or markup is None:
        return None
    for row in markup.inline_keyboard:
        for button in row:
            if button.callback_data == data:
                return ask, int(number), button.text
    return None
