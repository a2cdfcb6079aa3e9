from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.matrix.options import Options, read

SERVER = {"MATRIX_HOMESERVER": "https://example.org/", "MATRIX_ACCESS_TOKEN": "canary"}


def options(environ: dict[str, str] | None = None, token: str = "", **extra: Any) -> Options:
    environ = SERVER if environ is None else environ
    return read(AdapterSettings("matrix", token=token, extra=extra, environ=environ))


def test_the_defaults_are_those_of_hermes() -> None:
    made = options()
    assert (made.homeserver, made.token) == ("https://example.org", "canary")
    assert (made.require_mention, made.auto_thread, made.dm_mention_threads, made.encryption) == (
        True, True, False, False,
    )  # fmt: skip


def test_the_environment_goes_before_the_file() -> None:
    made = options({**SERVER, "MATRIX_REQUIRE_MENTION": "true"}, require_mention=False, auto_thread="no")
    assert (made.require_mention, made.auto_thread) == (True, False)


def test_rooms_in_a_list_or_a_variable() -> None:
    assert options(free_response_rooms=["!a:b", "!c"]).free_response_rooms == {"!a:b", "!c"}
    made = options({**SERVER, "MATRIX_FREE_RESPONSE_ROOMS": "!a:b, !c", "MATRIX_ALLOWED_ROOMS": "!d"})
    assert (made.free_response_rooms, made.allowed_rooms) == ({"!a:b", "!c"}, {"!d"})


def test_what_must_last_lies_beside_the_media() -> None:
    assert str(options(media_dir="/home/x/hermesd/media").data_dir) == "/home/x/hermesd/matrix"
    assert options().data_dir is None


def test_secrets_are_not_shown() -> None:
    made = options({**SERVER, "MATRIX_PASSWORD": "canary"})
    assert "canary" not in repr(made)


@pytest.mark.parametrize(
    ("environ", "word", "fix"),
    [
        ({"MATRIX_ACCESS_TOKEN": "t"}, "no homeserver", "MATRIX_HOMESERVER="),
        ({**SERVER, "MATRIX_HOMESERVER": "example.org"}, "no http", "https://"),
        ({**SERVER, "MATRIX_HOMESERVER": "http://[::1"}, "no http", "https://"),
        ({"MATRIX_HOMESERVER": "https://e.org"}, "neither an access token", "MATRIX_ACCESS_TOKEN"),
        ({"MATRIX_HOMESERVER": "https://e.org", "MATRIX_PASSWORD": "p"}, "neither an access token", "MATRIX_USER_ID"),
        ({**SERVER, "MATRIX_USER_ID": "robo"}, "no Matrix user id", "@name:server"),
        ({**SERVER, "MATRIX_AUTO_THREAD": "perhaps"}, "neither true nor false", "MATRIX_AUTO_THREAD"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(environ: dict[str, str], word: str, fix: str) -> None:
    with pytest.raises(AdapterError, match=word) as caught:
        options(environ)
    assert str(caught.value).startswith("cannot ")
    assert fix in caught.value.fix


def test_a_password_with_its_user_is_enough() -> None:
    made = options({"MATRIX_HOMESERVER": "https://e.org", "MATRIX_PASSWORD": "p", "MATRIX_USER_ID": "@a:e.org"})
    assert (made.user_id, made.password, made.token) == ("@a:e.org", "p", "")
