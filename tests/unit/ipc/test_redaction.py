"""What is a secret, and that none of its forms stays in a text."""

from __future__ import annotations

import pytest

from hermesd.ipc.redaction import REDACTED, Redactor

TELEGRAM = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Authorization: Bearer abc123def456ghi", "Authorization: Bearer [redacted]"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "{'Authorization': 'Basic [redacted]'}"),
        ("authorization=Bot abc.def.ghi and more", "authorization=Bot [redacted] and more"),
        ("sent bearer sk_live_4711", "sent bearer [redacted]"),
        (f"GET https://api.telegram.org/bot{TELEGRAM}/getMe", "GET https://api.telegram.org/bot[redacted]/getMe"),
        ("postgres://app:hunter22@db/x", "postgres://app:[redacted]@db/x"),
        ("redis://:hunter22@db", "redis://:[redacted]@db"),
        ("?access_token=abcdefgh&x=1", "?access_token=[redacted]&x=1"),
        ('{"api_key": "abcdefgh", "n": 1}', '{"api_key": "[redacted]", "n": 1}'),
        ("password='correct horse'", "password='[redacted] horse'"),
        ("the key sk-proj-abcdefghijklmnop works", "the key [redacted] works"),
        ("ghp_0123456789abcdefghij0123", "[redacted]"),
        (f"cookie {JWT}", "cookie [redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
    ],
)  # fmt: skip
def test_what_has_the_shape_of_a_credential_is_blackened(text: str, cleaned: str) -> None:
    redactor = Redactor(())
    assert redactor.clean(text) == cleaned
    assert redactor.clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of good news", "tokens: 1234567 of 9999999", "max_tokens=1234567", "an authorization is missing",
        "https://example.org:8080/a@b", "12:34:56 started", "token: expected a name", "secretary: of the board",
        "state of session agent:main:telegram:dm:123456789012",
    ],
)  # fmt: skip
def test_ordinary_words_stay(text: str) -> None:
    assert Redactor(()).clean(text) == text


def test_a_known_secret_is_found_in_every_form_of_it() -> None:
    secret = 'pa"ss/w ord\nline\\two'
    redactor = Redactor([secret, "short"])
    forms = [secret, 'pa\\"ss/w ord\\nline\\\\two', "pa%22ss%2Fw%20ord%0Aline%5Ctwo", repr(secret)[1:-1]]
    for form in forms:
        assert redactor.clean(f"<{form}>") == f"<{REDACTED}>"
    assert redactor.clean("a short word") == "a short word"


def test_of_two_secrets_the_longer_is_blackened_whole() -> None:
    assert Redactor(["abcdef", "abcdefghi"]).clean("abcdefghi abcdef") == f"{REDACTED} {REDACTED}"


def test_what_is_learnt_later_is_added() -> None:
    redactor = Redactor(["first-secret"])
    redactor.know({"MY_TOKEN": "second-secret", "HOME": "/home/me"}, ["third-secret"])
    assert redactor.clean("first-secret second-secret third-secret /home/me") == " ".join([REDACTED] * 3) + " /home/me"
