"""Routes as they are written, and the settings around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.contract import AdapterSettings, Delivery, Target
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.webhook.options import read
from hermesd.adapters.webhook.routes import BadRoute, RouteSpec, parse


def route(value: Any, *, name: str = "r", secret: str = "", on_loopback: bool = True) -> RouteSpec:
    return parse(name, value, source="config.yaml", secret=secret, on_loopback=on_loopback)


def options(environ: dict[str, str] | None = None, **extra: Any) -> Any:
    return read(AdapterSettings("webhook", extra=extra, environ=environ or {}))


def test_a_route_of_hermes_agents_documentation() -> None:
    found = route(
        {
            "events": ["pull_request"],
            "secret": "s",
            "prompt": "Review\n",
            "deliver": "telegram",
            "deliver_extra": {"chat_id": -1001234567890, "message_thread_id": "42"},
        }
    )
    assert (found.events, found.secret, found.prompt) == (("pull_request",), "s", "Review\n")
    assert found.delivery("webhook", "x") == Delivery(Target("telegram", "-1001234567890", "42"))
    assert not found.problem
    assert not found.warnings


def test_a_route_without_anything() -> None:
    found = route({})
    assert (found.secret, found.events, found.enabled, found.problem) == ("", (), True, "")
    assert found.delivery("webhook", "r:*") == Delivery(Target("webhook", "r:*"))


def test_whose_secret_counts() -> None:
    assert route({}, secret="of all").secret == "of all"
    assert route({"secret": "own"}, secret="of all").secret == "own"
    assert route({"secret": "INSECURE_NO_AUTH"}, secret="of all").secret == ""


def test_no_secret_where_others_can_come_in() -> None:
    for value in ({}, {"secret": ""}, {"secret": "INSECURE_NO_AUTH"}):
        assert "no secret" in route(value, on_loopback=False).problem
    assert not route({"secret": "s"}, on_loopback=False).problem


@pytest.mark.parametrize("key", ["filters", "script", "coalesce", "cron_job"])
def test_what_would_hold_events_back_keeps_a_route_from_being_served(key: str) -> None:
    assert f"{key}:" in route({key: ["x"]}).problem
    assert not route({key: []}).problem


def test_one_of_another_profile_is_not_served() -> None:
    assert "profile" in route({"profile": "coder"}).problem


def test_comments_on_github() -> None:
    extra = {"repo": "{repository.full_name}", "pr_number": "{number}"}
    found = route({"deliver": "github_comment", "deliver_extra": extra})
    assert found.delivery("webhook", "x") == Delivery(Target("webhook", "github:{repository.full_name}#{number}"))
    for missing in ({}, {"repo": "a/b"}, {"pr_number": 1}):
        with pytest.raises(BadRoute, match="repo and pr_number"):
            route({"deliver": "github_comment", "deliver_extra": missing})


def test_what_has_no_effect_is_said_and_a_slip_is_guessed() -> None:
    skills, event = route({"skills": ["review"], "event": ["push"], "profile": "default", "toolsets": []}).warnings
    assert "skills has no effect" in skills
    assert "did you mean events?" in event


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("push", "mapping"),
        ({"events": 3}, "events"),
        ({"events": [3]}, "events"),
        ({"secret": 12345}, "quotes"),
        ({"prompt": ["a"]}, "prompt"),
        ({"deliver_extra": "42"}, "deliver_extra"),
        ({"deliver_extra": {"chat_id": [1]}}, "chat_id"),
        ({"deliver": "telegram", "deliver_extra": {"thread_id": "1"}}, "no chat_id"),
        ({"deliver_only": "yes"}, "true or false"),
        ({"deliver_only": True}, "needs a platform"),
        ({"signature": "md5"}, "one of"),
    ],
)
def test_what_means_nothing_is_refused(value: Any, said: str) -> None:
    with pytest.raises(BadRoute, match=said) as error:
        route(value)
    assert "route r" in str(error.value)
    assert "12345" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".a", "x" * 65, "ä"])
def test_names(name: str) -> None:
    with pytest.raises(BadRoute, match="not a name"):
        route({}, name=name)


class TestOptions:
    def test_the_defaults(self) -> None:
        found = options()
        assert (found.host, found.port, found.rate_limit, found.max_body) == ("127.0.0.1", 8644, 30, 1 << 20)
        assert found.subscriptions is None

    def test_variables_go_first(self, tmp_path: Path) -> None:
        environ = {"WEBHOOK_PORT": "9000", "WEBHOOK_SECRET": "s", "WEBHOOK_HOST": "localhost"}
        found = options(environ, port=1, secret="t", host="0.0.0.0", home=str(tmp_path), routes={"r": {}})
        assert (found.host, found.port, found.routes["r"].secret) == ("127.0.0.1", 9000, "s")
        assert found.subscriptions == tmp_path / "webhook_subscriptions.json"

    def test_another_host_needs_a_secret_on_every_route(self) -> None:
        assert options(host="0.0.0.0", secret="s", routes={"a": {}}).routes["a"].secret == "s"
        for routes in ({"a": {"secret": "s"}, "b": {}}, {"b": {"secret": "INSECURE_NO_AUTH"}}):
            with pytest.raises(AdapterError, match="b has none") as error:
                options(host="0.0.0.0", routes=routes)
            assert "WEBHOOK_SECRET" in error.value.fix

    @pytest.mark.parametrize(
        ("extra", "said"),
        [
            ({"port": 70000}, "no port"),
            ({"port": "x"}, "not a number"),
            ({"rate_limit": 0}, "less than 1"),
            ({"routes": []}, "mapping"),
            ({"routes": {"r": 1}}, "route r"),
        ],
    )
    def test_what_is_refused(self, extra: dict[str, Any], said: str) -> None:
        with pytest.raises(AdapterError, match=said):
            options(**extra)
