"""What a worker is told at birth. It reads no configuration file and no environment of its own besides this.

The supervisor writes the encoded spec into a pipe whose read end the worker inherits; it holds the one-time token that
proves the worker to the supervisor, and so must not travel in argv, in the environment or through the keeper's heap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hermesd.ipc.messages import Assign


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


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to become one. Times in seconds, sizes in bytes."""

    worker: str
    instance: str  # the home's id: what a sweep of this home may touch
    tag: str  # "<instance>-<32 hex>": the value of HERMESD_TAG in this worker and all below
    endpoint: str  # ZeroMQ address of the supervisor's ROUTER
    token: str
    containment: str  # name of the strategy the keeper chose: "cgroup", "subreaper", "pgroup"
    container: str  # this worker's container, as that strategy names it
    agent: str  # "demo" or "package.module:factory"
    agent_path: tuple[str, ...] = ()
    servers: tuple[ServerSpec, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)  # the whole environment of the worker, without the tag
    log_dir: str = ""
    log_level: str = "INFO"
    heartbeat: float = 1.0
    stop_grace: float = 3.0  # an MCP server's time between each step of a polite stop
    session: Assign | None = None  # None: a spare, which is given its session later by that very message
