"""Whether a request comes from somebody who knows its route's secret. Pure: the time is passed in.

A header says which scheme its sender uses, and must then be right; nothing weaker that came beside it is tried, for
whoever replays a captured request could have stripped the stronger part. Comparisons take the same time for every
wrong value. Header names are lower case here.

The schemes and their sources:

* ``standard``: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md; GitLab's
  signing tokens are the same, and Svix' older header names.
* ``github``: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
* ``gitlab``: https://docs.gitlab.com/user/project/integrations/webhooks/ (the secret token is sent as it is)
* ``generic``, ``linear`` and ``bearer``: as hermes-agent's gateway takes them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

TOLERANCE = 300.0
"""Seconds that a signed timestamp may be off, either way."""

SCHEMES = ("auto", "github", "gitlab", "standard", "generic", "linear", "bearer")
"""What a route may be pinned to; ``auto`` goes by the headers."""

KNOWN_HEADERS = (
    "X-Hub-Signature-256 (GitHub), X-Gitlab-Token, webhook-signature (GitLab's signing token, Standard Webhooks), "
    "X-Webhook-Signature-V2 or Authorization: Bearer"
)


class Unverified(Exception):
    """The sender has not proved that it knows the secret. The text is for it: what was wrong, never what is right."""


@dataclass(frozen=True, slots=True)
class Verified:
    """``signed``: what the signature covers is new each time, so that the same one again is the same request."""

    scheme: str
    signed: bool = False
    signature: str = ""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float, scheme: str = "auto") -> Verified:
    """Check a request. ``now`` in Unix seconds. Raises `Unverified`."""
    allowed = _OF_SCHEME[scheme]
    token = headers.get("x-gitlab-token", "")
    if token and "gitlab" in allowed and _same(token, secret):
        return Verified("gitlab")
    for name, present, check in _CHECKS:
        if name in allowed and (found := next((header for header in present if headers.get(header)), "")):
            return check(headers, found, body, secret, now)
    wanted = KNOWN_HEADERS if scheme == "auto" else _WANTED[scheme]
    raise Unverified(f"the request is not signed: send {wanted}")


def sign(scheme: str, secret: str, body: bytes, message_id: str, now: float) -> dict[str, str]:
    """The headers of a sender that uses this scheme; ``auto`` is the generic one."""
    at = str(int(now))
    match scheme:
        case "github":
            return {"X-Hub-Signature-256": f"sha256={_hex(secret, body)}", "X-GitHub-Delivery": message_id}
        case "gitlab" if not secret.startswith("whsec_"):
            return {"X-Gitlab-Token": secret, "Idempotency-Key": message_id}
        case "gitlab" | "standard":
            digest = hmac.digest(_standard_key(secret), _standard_content(message_id, at, body), "sha256")
            signature = base64.b64encode(digest).decode()
            return {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
        case "linear":
            return {"Linear-Signature": _hex(secret, body), "X-Request-ID": message_id}
        case "bearer":
            return {"Authorization": f"Bearer {secret}", "X-Request-ID": message_id}
    signature = _hex(secret, f"{at}.".encode() + body)
    return {"X-Webhook-Timestamp": at, "X-Webhook-Signature-V2": signature, "X-Request-ID": message_id}


def _standard(headers: Mapping[str, str], header: str, body: bytes, secret: str, now: float) -> Verified:
    prefix = header.removesuffix("-signature")
    message_id, at = headers.get(f"{prefix}-id", ""), headers.get(f"{prefix}-timestamp", "")
    if not message_id or not at:
        raise Unverified(f"{header} needs {prefix}-id and {prefix}-timestamp beside it")
    _check_fresh(at, f"{prefix}-timestamp", now)
    right = base64.b64encode(hmac.digest(_standard_key(secret), _standard_content(message_id, at, body), "sha256"))
    # While a sender changes its secret it signs with both: "v1,AAA= v1,BBB=".
    given = [entry.partition(",") for entry in headers[header].split()]
    if not any(version == "v1" and _same(signature, right.decode()) for version, _, signature in given):
        raise Unverified(_wrong(header))
    return Verified("standard", True, right.decode())


def _generic(headers: Mapping[str, str], header: str, body: bytes, secret: str, now: float) -> Verified:
    at = headers.get("x-webhook-timestamp", "")
    if not at:
        raise Unverified("X-Webhook-Signature-V2 needs X-Webhook-Timestamp beside it")
    _check_fresh(at, "X-Webhook-Timestamp", now)
    right = _hex(secret, at.encode("utf-8", "surrogateescape") + b"." + body)
    if not _same(headers[header], right):
        raise Unverified("X-Webhook-Signature-V2 is not that of '<timestamp>.<body>' with this route's secret")
    return Verified("generic", True, right)


def _of_body(scheme: str, prefix: str = "") -> Callable[[Mapping[str, str], str, bytes, str, float], Verified]:
    def check(headers: Mapping[str, str], header: str, body: bytes, secret: str, now: float) -> Verified:
        if not _same(headers[header], prefix + _hex(secret, body)):
            raise Unverified(_wrong(header))
        return Verified(scheme)

    return check


def _gitlab(headers: Mapping[str, str], header: str, body: bytes, secret: str, now: float) -> Verified:
    raise Unverified("X-Gitlab-Token is not this route's secret")  # that it is was looked at first


def _bearer(headers: Mapping[str, str], header: str, body: bytes, secret: str, now: float) -> Verified:
    scheme, _, given = headers[header].partition(" ")
    if scheme.lower() != "bearer" or not _same(given.strip(), secret):
        raise Unverified("Authorization is not 'Bearer' with this route's secret")
    return Verified("bearer")


# fmt: off
_CHECKS = (  # the strongest first
    ("standard", ("webhook-signature", "svix-signature"), _standard),
    ("generic",  ("x-webhook-signature-v2",),             _generic),
    ("github",   ("x-hub-signature-256",),                _of_body("github", "sha256=")),
    ("gitlab",   ("x-gitlab-token",),                     _gitlab),
    ("linear",   ("linear-signature",),                   _of_body("linear")),
    ("generic",  ("x-webhook-signature",),                _of_body("generic")),
    ("bearer",   ("authorization",),                      _bearer),
)
_OF_SCHEME: Mapping[str, frozenset[str]] = {
    **{scheme: frozenset({scheme}) for scheme in SCHEMES},
    "auto": frozenset(SCHEMES),
    "gitlab": frozenset({"gitlab", "standard"}),
}
_WANTED: Mapping[str, str] = {
    "github": "X-Hub-Signature-256",
    "gitlab": "X-Gitlab-Token, or webhook-signature",
    "standard": "webhook-id, webhook-timestamp and webhook-signature",
    "generic": "X-Webhook-Timestamp and X-Webhook-Signature-V2",
    "linear": "Linear-Signature",
    "bearer": "Authorization: Bearer",
}
# fmt: on


def _check_fresh(at: str, header: str, now: float) -> None:
    try:
        age = now - int(at)
    except ValueError:
        raise Unverified(f"{header} is not a number of seconds since 1970") from None
    if abs(age) > TOLERANCE:
        raise Unverified(f"{header} is {abs(age):.0f} s {'old' if age > 0 else 'ahead'}; {TOLERANCE:.0f} are allowed")


def _standard_key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()  # some hand out such a secret as it is
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise Unverified("this route's secret begins with whsec_ and is not base64 behind it") from None


def _standard_content(message_id: str, at: str, body: bytes) -> bytes:
    return f"{message_id}.{at}.".encode("utf-8", "surrogateescape") + body


def _hex(secret: str, content: bytes) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    # As bytes: compare_digest refuses text that is not ASCII, and the sender chooses it.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())


def _wrong(header: str) -> str:
    return f"{header} is not that of this body with this route's secret"
