"""What a login has brought, and how a new access token is asked for with it (RFC 6749, 5 and 6). Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

MARGIN = 30.0
"""Seconds before its end that a token is not used any more: clocks differ, and requests take time."""

SHARE = 0.1
"""Of a short life; the smaller of the two counts."""


@dataclass(frozen=True, slots=True)
class Grant:
    """``expires_at`` in Unix seconds, 0 where the server did not say."""

    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    expires_at: float = 0.0
    lifetime: float = 0.0  # seconds, of each access token
    scope: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    client_auth: str = "none"  # "none" | "client_secret_post" | "client_secret_basic"
    token_endpoint: str = ""
    resource: str = ""  # RFC 8707: what the tokens are for

    def good_for(self, now: float) -> float | None:
        """Seconds for which the access token may still be used; 0 = until it is refused; None = no more."""
        if not self.expires_at:
            return 0.0
        left = self.expires_at - now - min(MARGIN, self.lifetime * SHARE)
        return left if left > 0 else None


def refresh_request(grant: Grant) -> tuple[dict[str, str], dict[str, str]]:
    """Form and headers of the request to ``grant.token_endpoint``."""
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh, "client_id": grant.client_id}
    headers = {"Accept": "application/json"}
    if grant.resource:
        form["resource"] = grant.resource
    if grant.client_secret and grant.client_auth == "client_secret_basic":
        pair = f"{quote(grant.client_id, safe='')}:{quote(grant.client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif grant.client_secret:
        form["client_secret"] = grant.client_secret
    return form, headers


class Refused(Exception):
    """The authorization server's own error code; ``final``: asking again would be refused again."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code}: {said}" if said else code)
        self.code = code
        self.final = code in ("invalid_grant", "invalid_client", "unauthorized_client")


def refreshed(grant: Grant, status: int, body: bytes, now: float) -> Grant:
    """The grant after the answer to a `refresh_request`. Raises `Refused`, and ValueError for what is no answer."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ValueError(f"it answers {status} without JSON")
    if status >= 400 or "access_token" not in answer:
        if isinstance(code := answer.get("error"), str):
            raise Refused(code, str(answer.get("error_description") or ""))
        raise ValueError(f"it answers {status} without a token")
    return with_tokens(grant, answer, now)


def with_tokens(grant: Grant, answer: Mapping[str, Any], now: float) -> Grant:
    """A server that sends no new refresh token means the old one to be used again."""
    lifetime = float(answer.get("expires_in") or 0)
    return replace(
        grant,
        access=str(answer["access_token"]),
        refresh=str(answer.get("refresh_token") or grant.refresh),
        expires_at=now + lifetime if lifetime else 0.0,
        lifetime=lifetime,
        scope=str(answer.get("scope") or grant.scope),
    )


def resource_of(url: str) -> str:
    """A server's own name as a resource: its address without fragment (RFC 8707, MCP's authorization)."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), parts.query, ""))
