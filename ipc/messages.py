"""Every message between the supervisor and a worker, one frozen dataclass each.

How a message travels is part of its type:

* ``RELIABLE``: numbered, resent until acknowledged, delivered once and in order (`hermesd.ipc.link`).
* ``DURABLE``: reliable, and the acknowledgement means *committed to the journal*; the receiver gives it by hand.
* neither: a figure of the moment (the heartbeat); may be lost, is never resent.
* ``ANSWERED``: not numbered, but the receiver's link acknowledges at once, so that the sender hears from it.

Fields are plain data that MessagePack carries. Their annotations are the schema: `hermesd.ipc.codec` refuses a frame
that does not fit them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .mcp import ServerSpec, ToolInfo


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages. ``KIND`` is the ``t`` of the envelope."""

    KIND: ClassVar[str] = ""
    RELIABLE: ClassVar[bool] = True
    DURABLE: ClassVar[bool] = False
    ANSWERED: ClassVar[bool] = False


# ---- values inside messages -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a conversation's history, oldest first: who said what."""

    role: str  # "user" | "assistant" | "system"
    text: str
    at: float = 0.0  # Unix seconds; 0 where the way in does not know (history given by an API caller)


@dataclass(frozen=True, slots=True)
class StickerFacts:
    """What is known of a sticker besides its file; ``description`` is what an agent has seen in it before."""

    unique_id: str
    emoji: str = ""
    set_name: str = ""
    animated: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that lies on this machine: an attachment of a user or a file that an agent sends."""

    path: str
    name: str
    mime: str = "application/octet-stream"
    kind: str = "document"  # "image" | "animation" | "voice" | "audio" | "video" | "document" | "sticker"
    sticker: StickerFacts | None = None


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One MCP server of a worker, as the worker sees it; ``hermesctl ps`` joins it with figures of the kernel."""

    name: str
    generation: int
    state: str  # a word of hermesd.workers.mcp.slot.State
    pid: int = 0
    start_ticks: int = 0
    container: str = ""  # as hermesd.workers.containment names it; "" where it has none of its own
    reason: str = ""  # why it is in that state, where there is a why
    config: str = ""  # `config_hash` of what its process was started by, or would be


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record of a worker, already formatted there."""

    at: float
    level: int
    logger: str
    text: str
    turn: str = ""
    pid: int = 0


# ---- down: supervisor to worker -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """First message to a worker whose hello was believed; before it the worker sends nothing else.

    From a supervisor that has taken over it comes in the epoch after the hello's. The worker answers with what is
    durable and was not acknowledged, then a `Snapshot`, then `Servers`, and goes on from there.
    """

    KIND: ClassVar[str] = "welcome"


@dataclass(frozen=True, slots=True)
class Assign(Message):
    """Binds the worker to its session, for life. The worker makes the agent now; sent once, before any turn."""

    KIND: ClassVar[str] = "assign"
    session_key: str
    session_id: str
    platform: str
    chat_id: str
    user_id: str
    user_name: str
    history: tuple[Entry, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # the agent's own settings, from the configuration
    workdir: str = ""
    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class StartTurn(Message):
    """Run the agent for this message. Answered by `Accept`; the agent starts once that accept is acknowledged.

    ``config`` comes with every turn, so that a mended model applies to a running worker, also to one of an earlier
    hermesd, and needs no order among messages.
    """

    KIND: ClassVar[str] = "start_turn"
    turn: str
    text: str
    sender: str
    sender_name: str = ""
    attachments: tuple[File, ...] = ()
    attempt: int = 1
    timeout: float = 0.0  # seconds; 0 = no limit of the turn's own
    config: dict[str, Any] = field(default_factory=dict, repr=False)  # of a built-in agent, as it is now: model, key


@dataclass(frozen=True, slots=True)
class Interrupt(Message):
    """End the running turn. Acknowledged by the link thread; the turn answers with `Finished`."""

    KIND: ClassVar[str] = "interrupt"
    turn: str
    reason: str


@dataclass(frozen=True, slots=True)
class Steer(Message):
    """A user's text for the turn that is running. Answered by `Steered`."""

    KIND: ClassVar[str] = "steer"
    turn: str
    text: str


@dataclass(frozen=True, slots=True)
class Rewind(Message):
    """Drop the last ``entries`` of the history: the message they came from is about to be run again."""

    KIND: ClassVar[str] = "rewind"
    entries: int


@dataclass(frozen=True, slots=True)
class Answer(Message):
    """The user's answer to an `Ask`; ``choice`` is one of its choices, or "": too late, or undeliverable."""

    KIND: ClassVar[str] = "answer"
    ask: str
    choice: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class RestartServer(Message):
    """End an MCP server's process and empty its container; the next call that needs it starts another one.

    Its `Servers` report tells when that is done.
    """

    KIND: ClassVar[str] = "restart_server"
    name: str


@dataclass(frozen=True, slots=True)
class Equip(Message):
    """The MCP servers are these from now on: applied when no turn runs, and only to those that differ."""

    KIND: ClassVar[str] = "equip"
    servers: tuple[ServerSpec, ...]


@dataclass(frozen=True, slots=True)
class StartAnswer(Message):
    """May the server of a `StartRequest` be started? Comes when that is decided: another session may be trying it."""

    KIND: ClassVar[str] = "start_answer"
    server: str
    config: str
    request: int  # its number
    granted: bool
    grant: int = 0  # to be told in each `ServerNews` of what is started by it
    probe: bool = True  # ask for the stateless revision first
    again: bool = False  # it has failed before: who only wants its tools should not wait for them
    reason: str = ""  # why it is not granted
    next_try: float = 0.0  # Unix seconds: when it may be; 0 = not known


@dataclass(frozen=True, slots=True)
class KnownTools(Message):
    """The tools of the server of a `StartRequest`, which need no process to be known."""

    KIND: ClassVar[str] = "known_tools"
    server: str
    config: str
    request: int
    tools: tuple[ToolInfo, ...]


@dataclass(frozen=True, slots=True)
class AccessToken(Message):
    """Answer to a `TokenWanted`: the token and for how long it is good, or ``error``, a sentence on what to do."""

    KIND: ClassVar[str] = "access_token"
    server: str
    token: str = field(default="", repr=False)
    seconds: float = 0.0  # until a new one should be asked for; 0 = until the server refuses it
    error: str = ""


@dataclass(frozen=True, slots=True)
class Serve(Message):
    """Binds the worker to holding the one instance of an MCP server that all sessions share, instead of to a session.

    Sent once. It answers each `SharedCall` with a `SharedResult` from then on.
    """

    KIND: ClassVar[str] = "serve"
    server: str


@dataclass(frozen=True, slots=True)
class Kept(Message):
    """Another keeper holds the worker from now on: the one that forked it is dead. Its death is what to watch for."""

    KIND: ClassVar[str] = "kept"
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Stop(Message):
    """Close the agent and its MCP servers within ``grace`` seconds, then exit 0."""

    KIND: ClassVar[str] = "stop"
    reason: str
    grace: float


# ---- both ways: from a session's worker by way of the supervisor to the worker that holds a server, and back --------


@dataclass(frozen=True, slots=True)
class SharedCall(Message):
    """A call of an MCP server that all sessions share; ``tool`` "" asks for its list of tools.

    ``call`` is unique among those of its sender: the supervisor gives it another name on its way.
    """

    KIND: ClassVar[str] = "shared_call"
    call: str
    server: str
    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def is_of_tools(self) -> bool:
        """It only wants to know which tools there are."""
        return not self.tool and not self.arguments.get("start")


@dataclass(frozen=True, slots=True)
class SharedCancel(Message):
    """Nobody waits for the result of this call any more."""

    KIND: ClassVar[str] = "shared_cancel"
    call: str


@dataclass(frozen=True, slots=True)
class SharedResult(Message):
    """The result of a `SharedCall`, or ``error``: a sentence on why there is none."""

    KIND: ClassVar[str] = "shared_result"
    call: str
    text: str = ""
    is_error: bool = False
    structured: Any = None
    tools: tuple[ToolInfo, ...] = ()
    error: str = ""


# ---- up: worker to supervisor ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """First message of a worker: proves who it is. ZeroMQ does not say who connected, the token does.

    Sent when the connection is made and whenever it is made anew, and every second until the other end has said
    anything; until then nothing but hellos is sent on it. A supervisor that has taken over answers with `Welcome` in
    ``epoch`` + 1. One that knows the worker already hands it to the worker's link, whose acknowledgement is the answer.
    A worker whose keeper is dead goes on saying hello every second: the answers tell it that its supervisor lives.
    """

    KIND: ClassVar[str] = "hello"
    RELIABLE: ClassVar[bool] = False
    ANSWERED: ClassVar[bool] = True
    worker: str
    token: str
    pid: int
    start_ticks: int
    version: str
    epoch: int = 0  # the one that the worker's link is in


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """Sent by the link thread: about every second while a turn runs, much more rarely between turns."""

    KIND: ClassVar[str] = "heartbeat"
    RELIABLE: ClassVar[bool] = False
    turn: str  # the running turn, or ""
    loop_age: float  # seconds since the main thread's event loop last ran
    cpu_seconds: float = 0.0  # of the worker's own process so far, its children not counted
    next_in: float = 5.0  # seconds until the next one


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """The agent of an `Assign` is made; or it could not be (``error`` says why) and every turn will fail with that."""

    KIND: ClassVar[str] = "ready"
    error: str = ""


@dataclass(frozen=True, slots=True)
class Accept(Message):
    """The worker has the turn and has not started the agent yet."""

    KIND: ClassVar[str] = "accept"
    DURABLE: ClassVar[bool] = True
    turn: str


@dataclass(frozen=True, slots=True)
class Delta(Message):
    """More text of the answer. Adjacent ones merge while the supervisor is behind."""

    KIND: ClassVar[str] = "delta"
    turn: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolUse(Message):
    """The agent calls a tool: ``state`` is "started", "done" or "failed"; ``args`` is a short preview."""

    KIND: ClassVar[str] = "tool_use"
    turn: str
    name: str
    args: str
    state: str


@dataclass(frozen=True, slots=True)
class Status(Message):
    """A line on what the agent is doing, for people; never part of the answer."""

    KIND: ClassVar[str] = "status"
    turn: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished(Message):
    """The end of a turn. ``text`` is the whole answer, so deltas that still wait need not be sent.

    ``given``: the user's text as the agent got it, where that is not `StartTurn`'s; it goes into the conversation.
    """

    KIND: ClassVar[str] = "finished"
    DURABLE: ClassVar[bool] = True
    turn: str
    outcome: str  # "done" | "failed" | "interrupted"
    text: str = ""
    error: str = ""
    usage: dict[str, Any] = field(default_factory=dict)  # prompt_tokens, completion_tokens where the agent knows them
    given: str = ""


@dataclass(frozen=True, slots=True)
class Send(Message):
    """The agent sends something besides its answer. ``target`` "" means the chat of the turn."""

    KIND: ClassVar[str] = "send"
    DURABLE: ClassVar[bool] = True
    id: str
    turn: str
    target: str
    text: str
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask(Message):
    """The agent waits for a user's choice; the turn is *waiting* until the `Answer`."""

    KIND: ClassVar[str] = "ask"
    DURABLE: ClassVar[bool] = True
    ask: str
    turn: str
    question: str
    choices: tuple[str, ...]
    timeout: float


@dataclass(frozen=True, slots=True)
class Steered(Message):
    """Whether the agent took a `Steer`; if not, the supervisor queues the text as the next message."""

    KIND: ClassVar[str] = "steered"
    turn: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Snapshot(Message):
    """The state of a worker, for a supervisor that has taken over; sent when a new epoch opens.

    What of it is durable and was not acknowledged (accept, answer, sends, asks) comes besides, and before it.
    """

    KIND: ClassVar[str] = "snapshot"
    session_key: str  # "" = a spare
    session_id: str
    ready: bool  # the agent is made, or could not be
    error: str = ""  # why it could not
    turn: str = ""  # the running turn
    text: str = ""  # of its answer so far
    asks: tuple[Ask, ...] = ()  # what it waits for
    breaks: tuple[int, ...] = ()  # where in that text it called a tool, asked or sent something


@dataclass(frozen=True, slots=True)
class Described(Message):
    """What the agent sees in a sticker of this turn, for the next time that somebody sends it."""

    KIND: ClassVar[str] = "described"
    turn: str
    unique_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Servers(Message):
    """The worker's MCP servers, sent whole whenever one of them changes."""

    KIND: ClassVar[str] = "servers"
    servers: tuple[ServerReport, ...]


@dataclass(frozen=True, slots=True)
class StartRequest(Message):
    """An MCP server is needed and does not run. Answered by `StartAnswer`, or by `KnownTools` if those will do."""

    KIND: ClassVar[str] = "start_request"
    server: str
    config: str  # `hermesd.ipc.mcp.config_hash` of it
    request: int  # its number, among those of this worker
    for_tools: bool = False  # nobody calls it yet: its list of tools will do


@dataclass(frozen=True, slots=True)
class ServerNews(Message):
    """What became of an MCP server that was granted: the restart budget over all sessions lives by it.

    Only faults of its process and its connection are told, and what ends a grant. ``event``: "spawned" (again, if the
    probe broke it), "ready", "failed" (it does not start), "crashed" (it ended when it was ready), "probe_broke" (it
    died of the question for the stateless revision), "withdrawn" (nothing came of the grant).
    """

    KIND: ClassVar[str] = "server_news"
    server: str
    config: str
    grant: int
    event: str
    reason: str = ""
    permanent: bool = False  # of "failed": it will do so until somebody mends something


@dataclass(frozen=True, slots=True)
class Listed(Message):
    """The tools that an MCP server has, as it has just said: for other sessions, which need not start it to know."""

    KIND: ClassVar[str] = "listed"
    server: str
    config: str
    tools: tuple[ToolInfo, ...]


@dataclass(frozen=True, slots=True)
class TokenWanted(Message):
    """The worker needs an access token for an MCP server. ``refused``: the one that the server does not take, or ""."""

    KIND: ClassVar[str] = "token_wanted"
    server: str
    refused: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Logs(Message):
    """Log records of the worker; ``dropped`` counts those that did not fit since the last batch.

    Reliable for the sake of its acknowledgement: a worker has few of them under way, however much it logs.
    """

    KIND: ClassVar[str] = "logs"
    records: tuple[LogRecord, ...]
    dropped: int = 0


DOWN: tuple[type[Message], ...] = (
    Welcome, Assign, StartTurn, Interrupt, Steer, Rewind, Answer, RestartServer, Equip, StartAnswer, KnownTools,
    AccessToken, Serve, SharedCall, SharedCancel, SharedResult, Kept, Stop,
)  # fmt: skip
UP: tuple[type[Message], ...] = (
    Hello, Heartbeat, Ready, Accept, Delta, ToolUse, Status, Finished, Send, Ask, Steered, Described, Snapshot, Servers,
    StartRequest, ServerNews, Listed, TokenWanted, SharedCall, SharedCancel, SharedResult, Logs,
)  # fmt: skip
