"""What hermesd and its workers tell each other about MCP servers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One MCP stdio server as the configuration has it, ``${VAR}`` resolved."""

    name: str
    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)  # what its configuration names; the base is added by the worker
    cwd: str = ""
    timeout: float = 300.0  # seconds, one tool call
    connect_timeout: float = 60.0  # seconds, spawn to a finished handshake
    include: tuple[str, ...] = ()  # tools; empty = all
    exclude: tuple[str, ...] = ()
