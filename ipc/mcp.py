"""What hermesd and its workers tell each other about MCP servers: which there are, and which tools they have."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Final

NOT_OF_THE_PROCESS: Final = frozenset(
    {"name", "timeout", "connect_timeout", "include", "exclude", "idle_timeout", "max_lifetime", "config"}
)
"""Fields of a `ServerSpec` that may change while its process goes on; every other one asks for a new process."""


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
    idle_timeout: float = 0.0  # seconds without a call after which its process is ended; 0 = never
    max_lifetime: float = 0.0  # seconds of a process, which is ended at the next moment without a call; 0 = for ever
    config: str = ""  # `config_hash` of this


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """One tool as its server describes it. All of it is untrusted text."""

    name: str
    description: str
    schema: dict[str, Any]


def log_name(server: str) -> str:
    """The file of a server's stderr in the log directory. Its name comes from a configuration: it may hold slashes."""
    return f"mcp-{re.sub(r'[^A-Za-z0-9._-]', '_', server)[:100]}.log"


def config_hash(spec: ServerSpec) -> str:
    """The same for two specs that the same process serves: what is known of one then holds for the other."""
    fields = {name: value for name, value in asdict(spec).items() if name not in NOT_OF_THE_PROCESS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
