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


class PlatformRow(PlatformStatus):
    fix: str  # what a person can do, "" for nothing
    next_try_at: str | None  # when it is tried again by itself
    tries: int  # that have failed in a row
    connects: int  # since hermesd has started


class PlatformsDocument(TypedDict):
    schema: Literal[1]
    platforms: list[PlatformRow]


class WebhookRow(TypedDict):
    name: str
    url: str
    source: str  # the file that it is written in
    events: list[str]  # none: all
    platform: str  # where answers go; webhook itself: into the log, or to the issue that chat names (github:…)
    chat: str  # as it is written, perhaps with places for what an event holds; "": the home channel
    thread: str
    deliver_only: bool  # no agent is asked
    checks: str  # how a sender proves who it is, "": it need not
    description: str
    problem: str  # why it takes no events, "": it does
    received_at: str | None
    counts: dict[str, int]  # accepted, duplicate, ignored, refused, limited, bad, failed; since it is up


class WebhooksDocument(TypedDict):
    schema: Literal[1]
    routes: list[WebhookRow]
    faults: list[str]


class SubscribedDocument(TypedDict):
    schema: Literal[1]
    created: bool  # else an earlier one was changed
    secret: str
    route: WebhookRow


class SampleDocument(TypedDict):
    schema: Literal[1]
    url: str
    headers: dict[str, str]
    body: str


class WorkerCounts(TypedDict):
    # Sessions by the words of hermesd.supervisor.pool.worker_life.State; hibernated: those in which something waits.
    by_state: dict[str, int]
    total: int  # those of them that have a process
    max: int
    running_turns: int
    max_turns: int
    waiting_turns: int
    adopted: int  # taken over from the hermesd before, at the start


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


class WireFigures(TypedDict):
    """What was dropped at the door, since the start."""

    foreign_frames: int  # under names that are no worker's
    refused_hellos: int  # under a worker's name, without its token
    refused_keys: int  # over TCP
    unreadable_frames: int
    false_claims: int  # frames of a worker for a session that is not its own; it is ended for the first


class JournalStatus(TypedDict):
    state: str  # "ok" or "failing": nothing new is accepted, until the disk takes it again
    reason: str


class Finding(TypedDict):
    """Something that a person should know. Warnings of ``status`` and lines of ``doctor`` are the same thing."""

    id: str
    severity: str  # "ok", "warning", "error"
    message: str
    fix: str  # a command or a sentence; "" where there is nothing to do
    path: NotRequired[str]


class LeftoverRow(TypedDict):
    """Something that an earlier hermesd of this home has left."""

    kind: str  # "process", "cgroup", "socket", "file", "directory"
    path: NotRequired[str]  # of all but a process
    pid: NotRequired[int]  # this and the next four of a process
    command: NotRequired[str]
    proof: NotRequired[str]  # what shows that it is ours: "tag", "cgroup", or "descent" from either
    age_s: NotRequired[float]
    memory_bytes: NotRequired[int]
    reason: NotRequired[str]  # why it could not be removed


class DoctorDocument(TypedDict):
    schema: Literal[1]
    findings: list[Finding]
    leftovers: NotRequired[list[LeftoverRow]]  # missing where nobody could look


class LeftoversFound(TypedDict):
    """The only event of ``doctor.fix``: it has begun."""

    left_s: float  # how long it may take


class FixDocument(TypedDict):
    """The result of ``doctor.fix``: what was killed or removed, and what is still there."""

    schema: Literal[1]
    mended: list[LeftoverRow]
    left: list[LeftoverRow]


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
    repeated: NotRequired[int]  # how many times more the line before came; "msg" says it too


class StatusDocument(TypedDict):
    schema: Literal[1]
    state: str  # "running", "degraded", "starting", "draining"
    pid: int
    version: str
    instance: str
    home: str
    started_at: str
    uptime_s: float
    draining_since: NotRequired[str]  # only of "draining": when the stop, or the order for everything, was given
    loop: LoopFigures
    platforms: list[PlatformStatus]
    workers: WorkerCounts
    queues: QueueFigures
    cpu: CpuFigures
    memory_bytes: int
    wire: WireFigures
    containment: ContainmentStatus
    journal: JournalStatus
    drain: DrainStatus
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
    usage: NotRequired[UsageRow]  # of its session
    serves: NotRequired[str]  # the MCP server that it holds for all sessions, instead of having one
    turn_s: NotRequired[float]  # how long the turn has been running
    turn_state: NotRequired[str]  # dispatched: the worker has not said yet that it has it; running; waiting
    heard_s: NotRequired[float]  # since the last sign of life of a worker that has given one
    silent_s: NotRequired[float]  # it is silent: so long without a heartbeat, hermesd's own pauses not counted
    silent_cpu_s: NotRequired[float]  # what its own process has used meanwhile; a lot: it is busy in C
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


class HostFigures(TypedDict):
    """The machine that hermesd runs on."""

    cores: int
    load: float  # of the last minute
    cpu_percent: float | None  # 100 is all cores; None until there are two documents
    cpu_seconds: float  # of all cores, since boot
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int  # of the home's disk
    disk_free_bytes: int  # for this user
    monotonic_s: float


class PsDocument(TypedDict):
    schema: Literal[1]
    workers: list[WorkerRow]
    supervisor: OwnProcess
    keeper: OwnProcess | None  # the one that starts new workers
    keepers: NotRequired[list[OwnProcess]]  # those besides that an earlier hermesd has left with workers
    figures: FiguresSource
    host: HostFigures
    warnings: NotRequired[list[Finding]]  # workers that are silent, and that were ended because they hung


# ---- sessions -------------------------------------------------------------------------------------------------------


class UsageRow(TypedDict):
    """Tokens of a conversation so far, as far as its agent counts them."""

    prompt_tokens: int
    completion_tokens: int


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
    usage: NotRequired[UsageRow]


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
    last_end: NotRequired[str]  # how its last worker ended, in this life of hermesd; "" if none did
    evidence: NotRequired[str]  # the file about its last worker that hung; "" if none did
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


# ---- inbox, outbox --------------------------------------------------------------------------------------------------


class FileRow(TypedDict):
    name: str
    path: str


class InboxRow(TypedDict):
    """A message of a user."""

    id: int
    state: str  # a word of hermesd.supervisor.journal.states.InboxState
    session: str  # "" until it has one
    platform: str
    chat: str
    thread: str
    message_id: str
    user: str
    received_at: str
    changed_at: str  # when it came into this state
    turn: str | None
    worker: str | None
    attempts: int
    killed: int  # workers that died of it
    text: str  # in a list its beginning
    error: str
    files: NotRequired[list[FileRow]]


class InboxDocument(TypedDict):
    schema: Literal[1]
    messages: list[InboxRow]  # newest first


class InboxMessageDocument(TypedDict):
    schema: Literal[1]
    message: InboxRow


class OutboxRow(TypedDict):
    """A message to a chat."""

    id: int
    state: str  # a word of hermesd.supervisor.journal.states.OutboxState
    session: str  # "" where nobody knows one
    platform: str
    chat: str
    thread: str
    reply_to: str
    kind: str  # a word of hermesd.adapters.contract.Outbound
    created_at: str
    changed_at: str
    next_try_at: str | None  # of a pending one
    attempts: int
    turn: str | None
    platform_message_id: str | None
    text: str  # in a list its beginning
    error: str
    files: NotRequired[list[FileRow]]


class OutboxDocument(TypedDict):
    schema: Literal[1]
    messages: list[OutboxRow]  # newest first


class OutboxMessageDocument(TypedDict):
    schema: Literal[1]
    message: OutboxRow


class MessageOutcome(TypedDict):
    """What became of one message of a request for several."""

    id: int
    outcome: str  # "done", "not_found", "refused" (its state does not allow it), "failed" (the disk did not take it)
    detail: str


class MessageOutcomesDocument(TypedDict):
    """The result of ``retry`` and ``drop``."""

    schema: Literal[1]
    messages: list[MessageOutcome]


# ---- stop, restart --------------------------------------------------------------------------------------------------


class StopProgress(TypedDict):
    """An event of ``stop`` and ``restart``, about once a second and whenever something changes."""

    phase: str  # "draining", "stopping", "starting"
    workers: int
    busy: int
    left_s: float
    not_found: NotRequired[list[str]]  # in the first one, of sessions: those that there are none of


class RestartDocument(TypedDict):
    """The answer to ``restart.supervisor``, before it begins. The next life says in ``status`` what it took over."""

    schema: Literal[1]
    pid: int  # stays the same
    started_at: str  # of the life that ends now
    workers: int  # with a session


class StopResult(TypedDict):
    """The last word of a daemon that stops; after it the process exits."""

    schema: Literal[1]
    pid: int
    killed: int  # processes that did not end by themselves
    took_s: float


# ---- drain ----------------------------------------------------------------------------------------------------------


class DrainStatus(TypedDict):
    """An operator's order that no new turn begins. Part of ``status``."""

    everything: bool
    sessions: list[str]  # besides


class DrainResult(TypedDict):
    """Of ``drain``; that of ``undrain`` has ``lifted`` besides and no ``state``."""

    schema: Literal[1]
    state: str  # "drained": nothing runs; "draining": the time was over before; "lifted": somebody lifted it meanwhile
    running: int
    waiting: int  # messages that wait for the end of the drain


class UndrainResult(TypedDict):
    schema: Literal[1]
    lifted: bool  # there was something to lift
    waiting: int  # messages that waited for it


# ---- reload ---------------------------------------------------------------------------------------------------------


class ServerPlan(TypedDict):
    """What a reload means for the MCP servers, by their names; those in none of the lists are not touched."""

    added: list[str]
    replaced: list[str]  # their processes end, and the next call starts others
    adjusted: list[str]  # their processes go on
    removed: list[str]


class ReloadDocument(TypedDict):
    """Keys by what became of them. Of ``applied``, ``new_workers`` only reach workers that start later, and
    ``next_idle`` each worker as soon as it runs no turn.
    """

    schema: Literal[1]
    applied: list[str]
    new_workers: list[str]
    next_idle: list[str]
    mcp: ServerPlan
    needs_restart: list[str]
    no_effect: list[str]  # nothing acts on them in this version
    unchanged: bool
    dry_run: bool
    warnings: list[Finding]


# ---- send -----------------------------------------------------------------------------------------------------------


class SendDocument(TypedDict):
    """A message on its way. An event of ``send`` once it is on disk, and its result when its fate is known."""

    schema: Literal[1]
    id: int  # of its row in the outbox
    platform: str
    chat: str
    state: str  # a word of hermesd.supervisor.journal.states.OutboxState
    message_id: str  # the platform's, once it is sent
    error: str


# ---- mcp ------------------------------------------------------------------------------------------------------------


class McpBudget(TypedDict):
    """One configured MCP server over all sessions."""

    server: str
    config: str  # the same as long as the same process would be started
    state: str  # a word of hermesd.supervisor.mcp.budget.State
    reason: str  # of its last failure, where it has not started since
    next_try_at: str | None
    spawns: int  # processes that were started
    failures: int  # starts in a row that failed
    crashes: int  # in a row
    running: int  # sessions in which a process of it runs
    tools: int | None  # None: nobody has asked it yet


class McpRow(TypedDict):
    """One MCP server of one session, or the one that all sessions share."""

    session: str  # "" for the shared one
    worker: str
    server: str
    state: str  # a word of hermesd.workers.mcp.slot.State
    pid: int | None
    generation: int  # how often it was started
    config: str  # another one than its budget's: its worker takes the new configuration up when it is idle
    reason: str  # why it is in that state, where there is a why
    cpu_seconds: float | None
    memory_bytes: int | None


class McpDocument(TypedDict):
    schema: Literal[1]
    configured: list[str]
    budgets: list[McpBudget]  # of those
    servers: list[McpRow]


class McpServerDocument(McpBudget):
    """``mcp.show``."""

    schema: Literal[1]
    command: str  # "" for one by url
    url: str
    args: list[str]
    env: list[str]  # names only
    cwd: str
    timeout_s: float
    connect_timeout_s: float
    idle_timeout_s: float | None
    max_lifetime_s: float | None
    include: list[str]
    exclude: list[str]
    tool_names: list[str] | None
    log: str  # the file that its stderr goes to
    sessions: list[McpRow]


class McpResetDocument(TypedDict):
    schema: Literal[1]
    server: str
    was: str  # the state before


# ---- chat -----------------------------------------------------------------------------------------------------------


class ChatLine(TypedDict):
    """An input of ``chat``."""

    text: str
    id: NotRequired[str]  # unique within the chat; the ``turn`` of its events
    again: NotRequired[bool]  # it was sent before, over a connection that has ended: hermesd may have it


class ChatEvent(TypedDict):
    """An event of ``chat``.

    ======== =====================================================================================
    open     attached; ``session`` is the key, ``adopt_timeout_s`` how long workers wait for the next hermesd
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
    adopt_timeout_s: NotRequired[float]
    final: NotRequired[bool]  # a line of this chat has had its answer; ``turn`` is the line's


class ChatResult(TypedDict):
    """The end of ``chat``."""

    answered: int
    failed: int
    closing: bool  # hermesd leaves, whatever was still to be answered


# ---- the rest -------------------------------------------------------------------------------------------------------


Document = dict[str, Any]
"""A shape whose keys nobody looks at on the way."""
