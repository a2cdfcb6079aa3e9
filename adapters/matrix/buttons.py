"""Questions: Matrix has no buttons, so each choice is a reaction of ours that people press by adding theirs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .inbound import Event, relation_of

CURSOR = "questions"
KEPT = 50
"""Open questions that are remembered; older ones are answered by text."""

_KNOWN = {"approve": "✅", "yes": "✅", "deny": "❌", "no": "❌"}
_NUMBERS = ("1️⃣", "2️⃣", "3️⃣", "4️⃣", "5️⃣", "6️⃣", "7️⃣", "8️⃣", "9️⃣")
_VARIATION = "\ufe0f"


@dataclass(slots=True)
class Question:
    """One that was asked: in which room, for which thread, and what each sign means."""

    room: str
    ask: str
    signs: dict[str, str]  # sign -> choice
    thread: str = ""
    reactions: list[str] = field(default_factory=list)  # our own events


def signs(choices: tuple[str, ...]) -> dict[str, str]:
    """A sign for each choice, as many as there are signs for."""
    known = [_KNOWN.get(choice.casefold()) for choice in choices]
    if all(known) and len(set(known)) == len(known):
        return {sign: choice for sign, choice in zip(known, choices, strict=True) if sign}
    return dict(zip(_NUMBERS, choices, strict=False))


def legend(signs: Mapping[str, str]) -> str:
    """What stands below the question."""
    return " · ".join(f"{sign} {choice}" for sign, choice in signs.items())


def pressed(questions: Mapping[str, Question], event: Event) -> tuple[str, str] | None:
    """The question that a reaction answers, and the choice; None when it is no answer."""
    relation = relation_of(event)
    if relation.get("rel_type") != "m.annotation":
        return None
    question_id, key = relation.get("event_id"), relation.get("key")
    if not isinstance(question_id, str) or not isinstance(key, str) or question_id not in questions:
        return None
    if questions[question_id].room != event.get("room_id"):
        return None
    # Clients differ in whether they send U+FE0F along (spec: "Annotations").
    meant = {sign.replace(_VARIATION, ""): choice for sign, choice in questions[question_id].signs.items()}
    choice = meant.get(key.replace(_VARIATION, ""))
    return (question_id, choice) if choice is not None else None


def dump(questions: Mapping[str, Question]) -> str:
    rows = [[key, one.room, one.ask, one.signs, one.thread, one.reactions] for key, one in questions.items()]
    return json.dumps(rows[-KEPT:], ensure_ascii=False)


def load(text: str) -> dict[str, Question]:
    rows: list[list[Any]] = json.loads(text) if text else []
    return {row[0]: Question(row[1], row[2], dict(row[3]), row[4], list(row[5])) for row in rows}
