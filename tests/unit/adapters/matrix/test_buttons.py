from __future__ import annotations

from typing import Any

from hermesd.adapters.matrix.buttons import KEPT, Question, dump, legend, load, pressed, signs

ASK = Question("!r", "ask-1", {"✅": "approve", "❌": "deny"}, "$t", ["$1", "$2"])


def reaction(key: Any, event: Any = "$q", room: str = "!r") -> dict[str, Any]:
    relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
    return {"type": "m.reaction", "room_id": room, "content": {"m.relates_to": relation}}


def test_yes_and_no_have_signs_of_their_own_and_others_numbers() -> None:
    assert signs(("Approve", "deny")) == {"✅": "Approve", "❌": "deny"}
    assert signs(("approve", "yes")) == {"1️⃣": "approve", "2️⃣": "yes"}
    assert signs(("tea", "deny")) == {"1️⃣": "tea", "2️⃣": "deny"}
    assert len(signs(tuple(str(number) for number in range(20)))) == 9
    assert signs(()) == {}
    assert legend({"✅": "yes", "❌": "no"}) == "✅ yes · ❌ no"


def test_a_reaction_answers_the_question_it_is_under_and_no_other() -> None:
    questions = {"$q": ASK}
    assert pressed(questions, reaction("✅")) == ("$q", "approve")
    assert pressed(questions, reaction("❌\ufe0f")) == ("$q", "deny")
    for other in (
        reaction("🎉"), reaction("✅", "$other"), reaction("✅", room="!elsewhere"), reaction(None), reaction("✅", []),
        {"type": "m.reaction", "room_id": "!r", "content": {}},
    ):  # fmt: skip
        assert pressed(questions, other) is None


def test_what_is_kept_comes_back() -> None:
    assert load(dump({"$q": ASK})) == {"$q": ASK}
    assert load("") == {}
    many = {f"${number}": Question("!r", str(number), {}) for number in range(KEPT + 10)}
    assert list(load(dump(many))) == [f"${number}" for number in range(10, KEPT + 10)]
