"""The table of verbs: parameters, defaults, and that it fits the object that answers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hermesd.supervisor.control.access import Access
from hermesd.supervisor.control.api import VERBS, bind, bind_input, check_handlers
from hermesd.supervisor.control.errors import CannotServe, Code, Refused

READING = {
    "version", "status", "ps", "doctor", "logs.path", "sessions.list", "sessions.show", "inbox.list", "inbox.show",
    "outbox.list", "platforms.list", "outbox.show", "mcp.list", "mcp.show", "webhook.list",
}  # fmt: skip


def test_exactly_the_verbs_that_only_look_may_be_used_from_inside_a_container() -> None:
    assert {name for name, verb in VERBS.items() if verb.access is Access.READ} == READING


def test_every_verb_has_its_own_handler_and_a_line_of_help() -> None:
    assert len({verb.handler for verb in VERBS.values()}) == len(VERBS)
    assert all(verb.handler.isidentifier() and verb.help for verb in VERBS.values())


def test_only_streaming_verbs_take_inputs() -> None:
    assert {name for name, verb in VERBS.items() if verb.inputs} == {"chat"}
    assert all(verb.streams for verb in VERBS.values() if verb.inputs)


def test_missing_parameters_get_their_defaults() -> None:
    assert bind("ps", {})[1] == {"tree": False}
    assert bind("stop", {})[1] == {"sessions": [], "timeout_s": None}
    assert bind("chat", {"name": None})[1] == {"name": "", "waiting": []}


def test_a_default_list_is_a_new_one_each_time() -> None:
    assert bind("stop", {})[1]["sessions"] is not bind("stop", {})[1]["sessions"]


def test_a_whole_number_is_good_for_a_duration() -> None:
    assert bind("stop", {"timeout_s": 5})[1]["timeout_s"] == 5.0


@pytest.mark.parametrize(
    ("verb", "params", "complaint"),
    [
        ("ps", {"tree": 1}, '"tree" must be true or false, not 1'),
        ("ps", {"trees": True}, "no parameter 'trees'; it has: tree"),
        ("status", {"deep": True}, "it has: none"),
        ("sessions.show", {}, 'needs the parameter "session"'),
        ("sessions.show", {"session": ""}, '"session" must not be empty'),
        ("sessions.show", {"session": "x" * 5000}, "5000 characters long"),
        ("sessions.show", {"session": ["a"]}, "must be text"),
        ("sessions.reset", {"sessions": "a"}, "must be a list"),
        ("sessions.reset", {"sessions": []}, '"sessions" must not be empty'),
        ("sessions.reset", {"sessions": ["a", 5]}, "must be text, not 5"),
        ("stop", {"timeout_s": -1.0}, "0 or more"),
        ("stop", {"timeout_s": float("inf")}, "0 or more"),
        ("stop", {"timeout_s": float("nan")}, "0 or more"),
        ("stop", {"timeout_s": True}, "must be a number"),
        ("stop", {"sessions": ["s"] * 1001}, "1001 items"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_name(verb: str, params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint) as caught:
        bind(verb, params)
    assert caught.value.code == Code.USAGE


def test_an_unknown_verb_is_refused_as_such() -> None:
    with pytest.raises(Refused) as caught:
        bind("format_disk", {})
    assert caught.value.code == Code.UNKNOWN_VERB
    assert "version" in caught.value.next_step


def test_the_lines_of_a_chat_are_checked_too() -> None:
    assert bind_input("chat", {"text": "hello"}) == {"text": "hello", "id": "", "again": False}
    for data in ({}, {"text": 5}, {"text": "x" * 300_000}, {"text": "x", "as": "root"}):
        with pytest.raises(Refused):
            bind_input("chat", data)


def test_a_verb_without_inputs_takes_none() -> None:
    with pytest.raises(Refused, match="takes no input"):
        bind_input("stop", {"text": "faster"})


def _plain(self: object, params: dict[str, Any]) -> None:
    raise AssertionError


async def _unary(self: object, params: dict[str, Any]) -> dict[str, Any]:
    return {}


async def _streaming(self: object, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {}


def _handlers(**changed: Any) -> object:
    methods = {verb.handler: _streaming if verb.streams else _unary for verb in VERBS.values()}
    return type("Handlers", (), {**methods, **changed})()


def test_an_object_with_every_handler_fits() -> None:
    handlers = _handlers()
    assert inspect.isasyncgenfunction(handlers.stop)  # type: ignore[attr-defined]
    check_handlers(handlers)


def test_handlers_that_do_not_fit_are_all_named_at_the_start() -> None:
    with pytest.raises(CannotServe) as caught:
        check_handlers(_handlers(status=_plain, stop=_unary, ps=_streaming, sessions_show=None))
    for name in ("status", "stop", "ps", "sessions_show"):
        assert f"{name} (" in str(caught.value)
