"""The JSON documents of the control API, as types. hermesd fills them, ``hermesctl --json`` prints them as they are.

Times are RFC 3339 in UTC, durations are seconds, sizes are bytes, ``cpu_percent`` 100 is one core. ``None`` means that
nobody knows. Keys are only ever added within ``schema`` 1.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

SCHEMA: Literal[1] = 1


# ---- status ---------------------------------------------------------------------------------------------------------


class LoopFigures(TypedDict):
    lag_ms_p99: float


class PlatformStatus(TypedDict):
    name: str
    state: str  # a word of hermesd.adapters.contract.State
    detail: str  # why, where there is a why; else the account or the address
    since: str | None
    received_at: str | None  # the last message from it
    describe: dict[str, Any]  # what its adapter tells of itself: account, address; no secrets


class WorkerCounts(TypedDict):
    by_state: dict[str, int]  # sessions by the words of hermesd.supervisor.pool.worker_life.State
    total: int  # those of them that have a process
    max: int
    running_turns: int
    max_turns: int
    waiting_turns: int


class QueueFigures(TypedDict):
    inbox: int
    outbox: int
    oldest_s: float | None
    dead: int


class CpuFigures(TypedDict):
    percent: float | None  # None until there are two samples
    seconds: float  # of hermesd, the keeper and all workers, with their dead


class ContainmentStatus(TypedDict):
    name: str
    refused: list[str]  # "cgroup: cannot make ...: Permission denied", strongest first


class JournalStatus(TypedDict):
    state: str  # "ok" or "failed"
    reason: str


class Finding(TypedDict):
    """Something that a person should know. Warnings of ``status`` and lines of ``doctor`` are the same thing."""

    id: str
    severity: str  # "ok", "warning", "error"
    message: str
    fix: str  # a command or a sentence; "" where there is nothing to do
    path: NotRequired[str]


class LogLine(TypedDict):
    """One line of the log file."""

    ts: str
    level: str
    logger: str
    msg: str
    session: NotRequired[str]
    worker: NotRequired[str]
    turn: NotRequired[str]
    pid: NotRequired[int]


class StatusDocument(TypedDict):
    schema: Literal[1]
    state: str  # "running", "degraded", "starting", "draining"
    pid: int
    version: str
    instance: str
    home: str
    started_at: str
    uptime_s: float
    loop: LoopFigures
    platforms: list[PlatformStatus]
    workers: WorkerCounts
    queues: QueueFigures
    cpu: CpuFigures
    memory_bytes: int
    containment: ContainmentStatus
    journal: JournalStatus
    warnings: list[Finding]
    log_tail: list[LogLine]  # the last few at WARNING and above


# ---- ps -------------------------------------------------------------------------------------------------------------


class ServerRow(TypedDict):
    """One MCP server of a worker."""

    name: str
    pid: int | None
    state: str  # a word of hermesd.workers.mcp.slot.State
    cpu_seconds: float | None
    memory_bytes: int | None


class ProcessRow(TypedDict):
    """One process of a worker, for ``ps --tree``."""

    pid: int
    ppid: int
    command: str
    state: str  # the letter of /proc/PID/stat
    cpu_seconds: float
    memory_bytes: int
    mcp: str  # the server it belongs to, or ""


class WorkerRow(TypedDict):
    worker: str
    session: str
    pid: int | None
    state: str
    started_at: str | None
    idle_s: float | None
    turn: str | None
    queue: int
    restarts: int
    cpu_percent: float | None
    cpu_seconds: float
    memory_bytes: int
    processes: int
    mcp: list[ServerRow]
    platform: str  # of its session; "" for a spare
    user: str
    turn_s: NotRequired[float]  # how long the turn has been running
    retry_in_s: NotRequired[float]  # in backoff and quarantined: until the next try
    tree: NotRequired[list[ProcessRow]]  # asked for with {"tree": true}


class OwnProcess(TypedDict):
    """hermesd itself or a keeper."""

    pid: int
    state: str
    started_at: str
    cpu_percent: float | None
    cpu_seconds: float
    memory_bytes: int


class FiguresSource(TypedDict):
    """Where the CPU and memory figures come from and when they were taken."""

    source: str  # "cgroup" or "proc"
    exact: bool  # the kernel counts the dead itself
    taken_at: str
    monotonic_s: float  # of the same moment; two documents give the CPU percentage between them


class PsDocument(TypedDict):
    schema: Literal[1]
    workers: list[WorkerRow]
    supervisor: OwnProcess
    keeper: OwnProcess | None
    figures: FiguresSource


# ---- sessions -------------------------------------------------------------------------------------------------------


class SessionRow(TypedDict):
    session: str
    id: str
    platform: str
    user: str
    state: str  # of its worker
    worker: str | None
    created_at: str
    last_turn_at: str | None
    turns: int
    queue: int


class TurnRow(TypedDict):
    turn: str
    state: str  # a word of hermesd.supervisor.gateway.turn_life.State
    started_at: str | None
    duration_s: float | None
    text: str  # the beginning of the question
    error: str


class SessionsDocument(TypedDict):
    schema: Literal[1]
    sessions: list[SessionRow]


class SessionDocument(TypedDict):
    schema: Literal[1]
    session: SessionRow
    transcript_entries: int
    restarts: int
    last_turns: list[TurnRow]  # newest first


class SessionOutcome(TypedDict):
    """What became of one session of a request for several."""

    session: str
    outcome: str  # "done", "not_found", "failed", "timed_out": it still goes on
    detail: str


class OutcomesDocument(TypedDict):
    """The result of ``sessions.reset``, ``restart`` and ``stop`` of sessions."""

    schema: Literal[1]
    sessions: list[SessionOutcome]
    killed: NotRequired[int]  # processes that did not end by themselves


# ---- stop, restart --------------------------------------------------------------------------------------------------


class StopProgress(TypedDict):
    """An event of ``stop`` and ``restart``, about once a second and whenever something changes."""

    phase: str  # "draining", "stopping", "starting"
    workers: int
    busy: int
    left_s: float
    not_found: NotRequired[list[str]]  # in the first one, of sessions: those that there are none of


class StopResult(TypedDict):
    """The last word of a daemon that stops; after it the process exits."""

    schema: Literal[1]
    pid: int
    killed: int  # processes that did not end by themselves
    took_s: float


# ---- chat -----------------------------------------------------------------------------------------------------------


class ChatLine(TypedDict):
    """An input of ``chat``."""

    text: str


class ChatEvent(TypedDict):
    """An event of ``chat``.

    ======== =====================================================================================
    open     attached; ``session`` is the key
    delta    more text of the answer to ``turn``
    answer   the whole answer to ``turn``; the deltas before it are its beginning
    question the agent asks; ``/approve`` or ``/deny`` answers
    notice   something else for the user: a warning, a file, the reply of a slash command
    status   what the agent is doing
    failed   ``turn`` ended without an answer; ``text`` says why
    ======== =====================================================================================
    """

    kind: str
    text: str
    turn: NotRequired[str]
    session: NotRequired[str]
    final: NotRequired[bool]  # a line of this chat has had its answer; ``turn`` is the line's


# ---- the rest -------------------------------------------------------------------------------------------------------


Document = dict[str, Any]
"""A shape whose keys nobody looks at on the way."""
