"""The files that hermes-agent shares with us."""

import json
import os
import time

import pytest

from hermesd.supervisor.oauth.grant import Grant
from hermesd.supervisor.oauth.store import Store

URL = "https://mcp.example.com/mcp"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def written(store, name, **values):
    store.directory.mkdir(exist_ok=True)
    (store.directory / name).write_text(json.dumps(values))


def test_what_hermes_agent_wrote_is_a_grant(store):
    written(store, "far.json", access_token="a", expires_in=3600, refresh_token="r", expires_at=99.5)
    written(store, "far.client.json", client_id="c", client_secret="s", token_endpoint_auth_method="client_secret_post")
    written(store, "far.meta.json", issuer="https://as", token_endpoint="https://as/t")
    assert store.load("far", URL) == Grant(
        "a", "r", 99.5, 3600.0, "", "c", "s", "client_secret_post", "https://as/t", URL
    )


def test_a_file_without_an_end_ends_by_its_age(store):
    written(store, "far.json", access_token="a", expires_in=60)
    os.utime(store.file_of("far"), (1000, 1000))
    grant = store.load("far", URL)
    assert grant.expires_at == 1060
    assert grant.good_for(time.time()) is None
    assert grant.token_endpoint == "https://mcp.example.com/token"


@pytest.mark.parametrize("text", ["", "[]", '{"access_token": 1}'])
def test_a_broken_file_is_no_grant(store, text):
    written(store, "far.json")
    store.file_of("far").write_text(text)
    assert store.load("far", URL) is None


def test_what_was_saved_is_read_and_is_for_the_owner_only(store):
    grant = Grant("a", "r", 1234.5, 10.0, "read")
    before = store.stamp("a/b c")
    store.save("a/b c", grant)
    assert before is None
    assert store.stamp("a/b c") is not None
    found = store.load("a/b c", URL)
    assert (found.access, found.refresh, found.expires_at, found.lifetime, found.scope) == (
        "a",
        "r",
        1234.5,
        10.0,
        "read",
    )
    assert store.file_of("a/b c").name == "a_b_c.json"
    assert [path.stat().st_mode & 0o777 for path in (store.directory, store.file_of("a/b c"))] == [0o700, 0o600]
    assert [path.name for path in store.directory.iterdir()] == ["a_b_c.json"]
