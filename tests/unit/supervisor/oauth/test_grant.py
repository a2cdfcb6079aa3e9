"""When a token is still good, what a refresh asks for, and what its answer means."""

import json

import pytest

from hermesd.supervisor.oauth.grant import Grant, Refused, refresh_request, refreshed, resource_of

NOW = 1000.0
GRANT = Grant(
    "a1", "r1", expires_at=NOW + 3600, lifetime=3600, scope="read", client_id="c", token_endpoint="https://as/token"
)


def answer(**fields):
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("lifetime", "left", "good_for"),
    [(3600, 3600, 3570), (3600, 31, 1), (3600, 30, None), (2, 2, 1.8), (2, 0.3, pytest.approx(0.1)), (2, 0.1, None)],
)
def test_a_token_is_put_away_before_its_end(lifetime, left, good_for):
    grant = Grant("a", expires_at=NOW + left, lifetime=lifetime)
    assert grant.good_for(NOW) == good_for


def test_a_token_without_an_end_is_good_until_it_is_refused():
    assert Grant("a").good_for(NOW) == 0.0


@pytest.mark.parametrize(
    ("secret", "auth", "in_form", "basic"),
    [("", "none", False, False), ("s", "client_secret_post", True, False), ("s", "client_secret_basic", False, True)],
)
def test_the_client_proves_itself_as_it_was_registered(secret, auth, in_form, basic):
    form, headers = refresh_request(Grant("a", "r", client_id="c", client_secret=secret, client_auth=auth))
    assert (form["grant_type"], form["refresh_token"], form["client_id"]) == ("refresh_token", "r", "c")
    assert ("client_secret" in form) is in_form
    assert ("Authorization" in headers) is basic


def test_an_answer_without_a_new_refresh_token_keeps_the_old_one():
    made = refreshed(GRANT, 200, answer(access_token="a2", expires_in=2), NOW)
    assert (made.access, made.refresh, made.expires_at, made.lifetime) == ("a2", "r1", NOW + 2, 2.0)
    assert refreshed(GRANT, 200, answer(access_token="a2", refresh_token="r2"), NOW).refresh == "r2"


@pytest.mark.parametrize(("code", "final"), [("invalid_grant", True), ("invalid_client", True), ("slow_down", False)])
def test_a_refusal_says_whether_asking_again_is_of_use(code, final):
    with pytest.raises(Refused, match=f"{code}: because") as refused:
        refreshed(GRANT, 400, answer(error=code, error_description="because"), NOW)
    assert refused.value.final is final


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_what_is_no_answer_is_a_value_error(body):
    with pytest.raises(ValueError, match="it answers 502"):
        refreshed(GRANT, 502, body, NOW)


def test_a_resource_is_the_address_of_its_server():
    assert resource_of("HTTPS://MCP.example.com/mcp/#x") == "https://mcp.example.com/mcp"
