from __future__ import annotations

import pytest

from hermesd.adapters.webhook.templates import PART_LIMIT, RAW_LIMIT, TEXT_LIMIT, render, unknown

PAYLOAD = {
    "action": "opened",
    "number": 7,
    "draft": False,
    "user": None,
    "pull_request": {"title": "Mend {number}", "labels": ["a", {"name": "b"}]},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("PR #{number} {action}: {pull_request.title}", "PR #7 opened: Mend {number}"),
        ("{draft} {user}", "false null"),
        ("{pull_request.labels.1.name}", "b"),
        ("{pull_request.labels.2.name} {none}", "{pull_request.labels.2.name} {none}"),
        ("{action.deeper}", "{action.deeper}"),
        ("{event_type}", "pull_request"),
        ("no place", "no place"),
        ("{ action } {}", "{ action } {}"),
    ],
)  # fmt: skip
def test_places(template: str, text: str) -> None:
    assert render(template, PAYLOAD, {"event_type": "pull_request"}) == text


def test_objects_and_lists_are_json() -> None:
    assert render("{pull_request.labels}", PAYLOAD, {}) == '[\n  "a",\n  {\n    "name": "b"\n  }\n]'


def test_a_payload_that_is_a_list() -> None:
    assert render("{0.a}", [{"a": 1}], {}) == "1"


def test_long_values_are_cut_where_it_can_be_seen() -> None:
    long = {"part": ["x" * 9000], "text": "y" * (TEXT_LIMIT + 10)}
    assert render("{part}", long, {}).startswith('[\n  "xxx')
    assert "more characters)" in render("{part}", long, {})[PART_LIMIT:]
    assert len(render("{__raw__}", long, {})) < RAW_LIMIT + 40
    assert render("{text}", long, {}).endswith("… (10 more characters)")


def test_what_is_not_there_is_named() -> None:
    assert unknown("{number} {a.b} {__raw__} {event_type}", PAYLOAD, {"event_type": "x"}) == ["a.b"]
