"""From a request to a message."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.contract import Delivery, Target
from hermesd.adapters.webhook.inbound import BadEvent, delivery_id, events_of, inbound, parse_body, takes
from hermesd.adapters.webhook.routes import RouteSpec, parse
from hermesd.adapters.webhook.signatures import Verified

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def route(**value: Any) -> RouteSpec:
    return parse("r", value, source="config.yaml", secret="", on_loopback=True)


def message(spec: RouteSpec, payload: Any, event: str = "push") -> Any:
    return inbound("webhook", spec, "d1", (event,), payload, 5.0)


class TestBody:
    def test_json_and_forms(self) -> None:
        assert parse_body(b'\xef\xbb\xbf{"a": [1]}', JSON) == {"a": [1]}
        assert parse_body(b"a=1&b=x+y&c=", FORM) == {"a": "1", "b": "x y", "c": ""}

    def test_a_form_of_github_holds_json(self) -> None:
        assert parse_body(b"payload=%7B%22action%22%3A%22opened%22%7D", FORM) == {"action": "opened"}

    @pytest.mark.parametrize("body", [b"", b"  ", b"{", b"\xff\xfe", b"hello", b"[" * 100_000])
    def test_what_is_none(self, body: bytes) -> None:
        with pytest.raises(BadEvent, match="the body is"):
            parse_body(body, JSON)


class TestEvents:
    @pytest.mark.parametrize(
        ("headers", "payload", "names"),
        [
            ({"x-github-event": "issues"}, {"event_type": "other"}, ("issues",)),
            (
                {"x-gitlab-event": "Merge Request Hook"},
                {"object_kind": "merge_request"},
                ("Merge Request Hook", "merge_request"),
            ),
            ({"x-gitlab-event": "Tag Push Hook"}, [], ("Tag Push Hook", "tag_push")),
            ({"x-gitlab-event": "System Hook"}, {"event_name": "user_add"}, ("System Hook", "system", "user_add")),
            ({}, {"event_type": "alert", "type": "x"}, ("alert",)),
            ({}, {"type": "payment.succeeded"}, ("payment.succeeded",)),
            ({}, {"type": 3}, ("unknown",)),
            ({}, [], ("unknown",)),
        ],
    )  # fmt: skip
    def test_names(self, headers: dict[str, str], payload: Any, names: tuple[str, ...]) -> None:
        assert events_of(headers, payload) == names

    def test_the_filter(self) -> None:
        assert takes(route(), ("push",))
        assert takes(route(events=["merge_request"]), ("Merge Request Hook", "merge_request"))
        assert not takes(route(events=["push"]), ("issues",))

    def test_a_ping_is_for_nobody_who_does_not_name_it(self) -> None:
        assert not takes(route(), ("ping",))
        assert takes(route(events=["ping"]), ("ping",))


class TestDeliveryId:
    @pytest.mark.parametrize(
        "header", ["x-github-delivery", "idempotency-key", "webhook-id", "svix-id", "x-request-id"]
    )
    def test_headers(self, header: str) -> None:
        assert delivery_id({header: "72d3162e-cc78"}, None, b"") == "72d3162e-cc78"

    def test_the_senders_own_word_goes_before_a_proxys(self) -> None:
        headers = {"x-request-id": "of a proxy", "x-github-delivery": "own"}
        assert delivery_id(headers, None, b"") == "own"

    @pytest.mark.parametrize("given", ["x" * 101, "a b", "ä", "a\udcff"])
    def test_an_odd_one_stands_for_itself(self, given: str) -> None:
        found = delivery_id({"x-request-id": given}, None, b"")
        assert found == delivery_id({"x-request-id": given}, None, b"other")
        assert len(found) == 32

    def test_gitlabs_event_uuid_is_shared_by_what_one_event_causes(self) -> None:
        headers = {"x-gitlab-event-uuid": "13792a34"}
        assert delivery_id(headers, None, b"a") == delivery_id(headers, None, b"a")
        assert delivery_id(headers, None, b"a") != delivery_id(headers, None, b"b")

    def test_a_signature_with_a_time_is_one_delivery(self) -> None:
        assert delivery_id({}, Verified("generic", True, "abc"), b"") == delivery_id(
            {}, Verified("generic", True, "abc"), b""
        )
        assert delivery_id({}, Verified("github"), b"") == ""


class TestMessage:
    def test_what_an_agent_gets(self) -> None:
        found = message(route(prompt="{event_type}: {ref}"), {"ref": "main\x00"})
        assert (found.text, found.chat_id, found.message_id) == ("push: main", "r:d1", "d1")
        assert (found.user_id, found.chat_name, found.trusted, found.history) == ("webhook:r", "webhook/r", True, ())
        assert found.delivery == Delivery(Target("webhook", "r:d1"))
        assert found.known_for == 3600.0

    def test_without_a_prompt_it_is_the_payload(self) -> None:
        assert message(route(), {"a": 1}).text == (
            "Webhook event 'push' on route 'r':\n\n```json\n{\n  \"a\": 1\n}\n```"
        )

    def test_where_its_answer_goes_may_be_in_the_payload(self) -> None:
        spec = route(deliver="telegram", deliver_extra={"chat_id": "{chat}", "thread_id": "{topic}"}, deliver_only=True)
        found = message(spec, {"chat": -100, "topic": "7"})
        assert found.delivery == Delivery(Target("telegram", "-100", "7"), verbatim=True)
        with pytest.raises(BadEvent, match="the payload has no chat"):
            message(spec, {"topic": 7})
        with pytest.raises(BadEvent, match="chat_id is empty"):
            message(spec, {"chat": "", "topic": 7})

    def test_a_home_channel_has_no_name(self) -> None:
        assert message(route(deliver="telegram"), {}).delivery == Delivery(Target("telegram", ""))

    @pytest.mark.parametrize("number", ["0", "x", "1 --repo other", "-1", ""])
    def test_a_comment_goes_to_an_issue_and_nowhere_else(self, number: str) -> None:
        extra = {"repo": "{repo}", "pr_number": "{number}"}
        spec = route(deliver="github_comment", deliver_extra=extra)
        assert message(spec, {"repo": "octo/repo", "number": 7}).delivery == Delivery(
            Target("webhook", "github:octo/repo#7")
        )
        with pytest.raises(BadEvent, match="no issue or pull request"):
            message(spec, {"repo": "octo/repo", "number": number})
        for repo in ("octo/../repo", "octo/..", "./repo", "octo", "octo/re po"):
            with pytest.raises(BadEvent, match="no issue or pull request"):
                message(spec, {"repo": repo, "number": 7})
