"""What a worker is told at birth. It reads no configuration file and no environment of its own besides this.

The supervisor writes the encoded spec into a pipe whose read end the worker inherits; it holds the one-time token that
proves the worker to the supervisor, and so must not travel in argv, in the environment or through the keeper's heap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hermesd.ipc.mcp import ServerSpec


@dataclass(frozen=True, slots=True)
class KeeperSpec:
    """What a keeper is told at birth, on its standard input. Its environment is the one its workers start from."""

    instance: str
    secret: str  # a supervisor proves itself by it
    socket: str  # Unix socket path that the keeper listens on
    containment: str  # preference: "auto" or the name of a strategy
    adopt_timeout: float  # seconds without a supervisor after which everything is emptied
    supervisor: int = 0  # its pid: until the first claim a keeper with another parent knows that it is dead
    preload: tuple[str, ...] = ()  # modules that every worker will need
    agent: str = ""
    agent_path: tuple[str, ...] = ()
    lock: str = ""  # the instance's lock file, held by a living hermesd; "" = no guard watches it
    keepers: str = ""  # the instance's list of keepers (`hermesd.supervisor.instance.keepers`), which the guard reads
    start_by: str = "fork"  # "exec": where fork is unsafe; the same requests are served by new interpreters


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """What a worker needs to reach hermesd over TCP: its own pair, and the public key that hermesd has to prove."""

    public: str
    secret: str = field(repr=False)
    server: str


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to become one. Times in seconds, sizes in bytes.

    Its session is not among it: that comes as an `hermesd.ipc.messages.Assign`, so that a spare, started ahead, and a
    worker started on demand are the same thing.
    """

    worker: str
    instance: str  # the home's id: what a sweep of this home may touch
    tag: str  # "<instance>-<32 hex>": the value of HERMESD_TAG in this worker and all below
    endpoint: str  # ZeroMQ address of the supervisor's ROUTER
    token: str
    containment: str  # name of the strategy the keeper chose: "cgroup", "subreaper", "pgroup"
    container: str  # the directory of this worker's container, "" where the strategy has none
    agent: str  # "demo" or "package.module:factory"
    wire_name: str = ""  # its ZeroMQ routing id: unguessable, for who connects under a name takes over its frames
    keeper: int = 0  # pid of its keeper; 0 = it has none
    agent_path: tuple[str, ...] = ()
    servers: tuple[ServerSpec, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)  # the whole environment of the worker, without the tag
    log_dir: str = ""
    log_level: str = "INFO"
    stacks: str = ""  # file that a stack dump (SIGUSR1) goes to; removed by the supervisor when it stayed empty
    adopt_timeout: float = 0.0  # seconds that it lives without keeper and supervisor; 0 = it ends with its keeper
    heartbeat: float = 1.0  # seconds between two, while a turn runs
    idle_heartbeat: float = 5.0  # the same between turns: two hundred idle workers must cost next to nothing
    curve: CurveKeys | None = None  # for an endpoint on TCP
    memory_bytes: int = 0  # it and all below it may not use more, where the kernel can be told so; 0 = no limit
    tasks: int = 0  # the same of processes with their threads
    stop_grace: float = 3.0  # an MCP server's time between each step of a polite stop
