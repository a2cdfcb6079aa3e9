"""Questions with a button for each choice."""

from __future__ import annotations

from typing import Any

import discord

from hermesd.adapters.contract import Question

LABEL_LIMIT = 80
BUTTONS_LIMIT = 25
ID_LIMIT = 100

_MARK = "hermesd"


def view_of(question: Question | None) -> discord.ui.View | None:
    """The buttons of a question; None where it has none, or a choice does not fit on one: any text is an answer then.

    The view is stopped: discord.py keeps those that run and answers their presses itself, in this life only.
    """
    if question is None or not _fits(question):
        return None
    view = discord.ui.View(timeout=None)
    for place, choice in enumerate(question.choices):
        refuses = choice.lower() in ("deny", "no", "cancel")
        style = discord.ButtonStyle.danger if refuses else discord.ButtonStyle.secondary
        view.add_item(discord.ui.Button(style=style, label=choice, custom_id=_id(question.ask, place)))
    view.stop()
    return view


def pressed(data: Any, components: list[Any]) -> tuple[str, str] | None:
    """The question and the choice of an interaction's ``data``; None for a button that is not ours."""
    custom_id = str(data.get("custom_id", ""))
    mark, _, rest = custom_id.partition(":")
    ask, _, place = rest.rpartition(":")
    if mark != _MARK or not ask or not place.isdecimal():
        return None
    for row in components:
        for button in getattr(row, "children", ()):
            if getattr(button, "custom_id", None) == custom_id:
                return ask, str(button.label)
    return None


def _fits(question: Question) -> bool:
    choices = question.choices
    return (
        0 < len(choices) <= BUTTONS_LIMIT
        and all(0 < len(choice) <= LABEL_LIMIT for choice in choices)
        and len(_id(question.ask, len(choices))) <= ID_LIMIT
    )


def _id(ask: str, place: int) -> str:
    return f"{_MARK}:{ask}:{place}"
