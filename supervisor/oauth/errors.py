"""Why there is no access token, as whole sentences: the chat and ``hermesctl mcp`` show them."""

from __future__ import annotations


class OAuthError(Exception):
    """Base of all."""


class LoginNeeded(OAuthError):
    """Only a person can help, in a browser."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"MCP server {server!r} {reason}: run hermesctl mcp login {server}")


class RefreshFailed(OAuthError):
    """The authorization server could not be asked, or does not answer; the next call tries again."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"cannot refresh the access token of MCP server {server!r}: {reason}")
