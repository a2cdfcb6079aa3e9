"""What hermesd and its workers tell each other about MCP servers: which there are, and which tools they have."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

NOT_OF_THE_PROCESS: Final = frozenset(
    {"name", "timeout", "connect_timeout", "tools_wait", "include", "exclude", "idle_timeout", "max_lifetime", "config"}
)
"""Fields of a `ServerSpec` that may change while its process goes on; every other one asks for a new process."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What an MCP server may ask of its session's model (``sampling/createMessage``)."""

    model: str = ""  # asked in place of the session's own; "" = that one
    allowed_models: tuple[str, ...] = ()  # those that a server may choose by a hint
    max_tokens: int = 4096  # cap of one answer
    timeout: float = 30.0  # seconds, one request
    per_minute: int = 10  # requests
    tool_rounds: int = 5  # answers in a row that call a tool of the server's; 0 = none
    log_level: str = "INFO"  # at which each request is logged


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server is reached over https."""

    verify: bool = True
    authorities: str = ""  # file with the certificates to trust; "" = the usual ones
    certificate: str = ""  # the client's own, a PEM file
    key: str = ""  # its key, where that is in another file
    password: str = field(default="", repr=False)  # of the key


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One MCP server as the configuration has it, ``${VAR}`` resolved: a command, or the address of a running one."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)  # what its configuration names; the base is added by the worker
    cwd: str = ""
    timeout: float = 300.0  # seconds, one tool call
    connect_timeout: float = 60.0  # seconds, spawn to a finished handshake
    tools_wait: float = 5.0  # seconds that a turn waits for the list of its tools, once, while nobody has it
    include: tuple[str, ...] = ()  # tools; empty = all
    exclude: tuple[str, ...] = ()
    idle_timeout: float = 0.0  # seconds without a call after which its process is ended; 0 = never
    max_lifetime: float = 0.0  # seconds of a process, which is ended at the next moment without a call; 0 = for ever
    config: str = ""  # `config_hash` of this
    url: str = ""  # of a server that somebody else runs
    transport: str = "http"  # how a url is spoken to: "http" (streamable) or "sse"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    tls: Tls | None = None  # None: as usual
    oauth: bool = False  # each request carries a token that the supervisor has
    keepalive: float = 180.0  # seconds between two looks at whether a url still answers
    resources: bool = True  # offer a server's resources as tools
    prompts: bool = True
    sampling: Sampling | None = None  # None: it may ask for nothing
    shared: bool = False  # one instance for all sessions, in a worker of its own
    fresh: bool = False  # a new process, or connection, for each call


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


def is_the_same(name: str, before: Iterable[ServerSpec], after: Iterable[ServerSpec]) -> bool:
    """Whether a process of the server goes on from one configuration to the next."""
    old, new = (next((spec for spec in specs if spec.name == name), None) for specs in (before, after))
    return old is not None and new is not None and old.config == new.config
