"""What can go wrong with an MCP server, as whole sentences: agents show them to people and to models."""

from __future__ import annotations

import math
from collections.abc import Iterable


class McpError(Exception):
    """Base of all. ``server`` is the server's name in the configuration."""

    def __init__(self, server: str, message: str) -> None:
        super().__init__(message)
        self.server = server


class NoSuchServer(McpError):
    """The name is not in the configuration."""

    def __init__(self, server: str, configured: Iterable[str]) -> None:
        names = ", ".join(sorted(configured)) or "none"
        super().__init__(server, f"there is no MCP server {server!r}; configured: {names}")


class NoSuchTool(McpError):
    """The configuration hides this tool (``tools.include`` or ``tools.exclude``)."""

    def __init__(self, server: str, tool: str) -> None:
        super().__init__(server, f"the configuration of MCP server {server!r} does not allow its tool {tool!r}")
        self.tool = tool


class CannotStart(McpError):
    """No process, or no finished handshake. The next call tries again."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, f"MCP server {server!r} does not start: {reason}")
        self.reason = reason


class Parked(CannotStart):
    """It has failed too often, in this session or in others, and is left alone for a while: nothing was started."""

    def __init__(self, server: str, reason: str, wait: float) -> None:
        again = f"it is tried again in {_span(wait)}" if wait > 0 else "it may be tried again now"
        super().__init__(server, f"{reason}; {again}, or after: hermesctl mcp reset {server}")
        self.wait = wait


class ServerDied(McpError):
    """The server ended under a call. Whether the tool had its effect is unknown, so nobody repeats the call."""

    def __init__(self, server: str, tool: str, reason: str) -> None:
        super().__init__(server, f"MCP server {server!r} ended during {tool!r}: {reason}")
        self.tool = tool
        self.reason = reason


class Unauthorised(McpError):
    """A server with OAuth cannot be used: the text says what the person who owns hermesd has to do."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.reason = reason


class SharedFailed(McpError):
    """A call of a server that all sessions share gave no result; the text is what the worker that holds it says."""


class SessionExpired(ServerDied):
    """A server that is reached by url has forgotten our session and refused the call, which had no effect.

    `hermesd.workers.mcp.server.Server` makes the call again on a new connection.
    """

    def __init__(self, server: str, tool: str) -> None:
        super().__init__(server, tool, "it has forgotten the session")


class CallTimeout(McpError):
    """The tool did not answer within the server's ``timeout``. The server was told and goes on living."""

    def __init__(self, server: str, tool: str, seconds: float) -> None:
        super().__init__(server, f"{server}.{tool} did not answer within {seconds:g} s")
        self.tool = tool
        self.seconds = seconds


class CallRejected(McpError):
    """The server answered with a protocol error, or with a result that breaks the tool's own schema."""

    def __init__(self, server: str, tool: str, reason: str) -> None:
        super().__init__(server, f"{server}.{tool} was rejected: {reason}")
        self.tool = tool
        self.reason = reason


def _span(seconds: float) -> str:
    """A wait in words.

    >>> _span(3.2), _span(272)
    ('4 s', '4 min 32 s')
    """
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


class ServersStopped(McpError):
    """The worker is stopping, or the server was taken out of the configuration; it is not started any more."""

    def __init__(self, server: str) -> None:
        super().__init__(server, f"cannot use MCP server {server!r}: its worker stops, or it is configured no more")
