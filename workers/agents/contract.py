"""The contract between a worker and the agent it hosts.

A factory ``make(session)`` returns an agent; anybody's agent and the built-in ones use the same. Only ``turn`` is
required, and it may be a plain function, which then runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hermesd.ipc.messages import Entry, File


class Tools(Protocol):
    """``session.mcp``: the MCP servers of the session, each started by the first call that needs it."""

    async def tools(self, *, patient: bool = False) -> list[Tool]:
        """Every tool of every configured server. Starts those whose list no session knows yet.

        A server that does not start is left out and logged; calling it raises its reason. So is one that takes longer
        than its ``tools_wait``: its tools are in the list as soon as they are known, so ask anew in each turn.
        ``patient``: wait until each server has given its list or has failed.
        """

    async def start(self, *servers: str) -> None:
        """Start these servers now, or all of them, so that no call has to wait for it.

        One that does not start is logged. Raises `hermesd.workers.mcp.errors.NoSuchServer`.
        """

    async def call(self, server: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Call one tool. Raises `hermesd.workers.mcp.errors.McpError` when the server or the transport fails."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as its server describes it; the description is untrusted text."""

    server: str
    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back. ``is_error``: the tool itself says it failed; the server is fine."""

    text: str
    is_error: bool = False
    structured: Any = None


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """An MCP server asks the session's model. Messages, tools and tool choice are in OpenAI's chat format."""

    server: str
    messages: list[dict[str, Any]]
    max_tokens: int
    model: str = ""  # "" = the session's own
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str = ""  # "auto" | "required" | "none" | "" = as the model likes


@dataclass(frozen=True, slots=True)
class SampleCall:
    """A tool of the server's that the model wants called; the server calls it."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model said to a `SampleRequest`. ``finish``: "stop", "length" or "tool_calls"."""

    text: str
    model: str
    finish: str = "stop"
    calls: tuple[SampleCall, ...] = ()


@dataclass(slots=True)
class Session:
    """What an agent knows of the conversation it serves. One per worker, for the worker's life."""

    key: str
    id: str
    platform: str
    chat: str
    user: str
    user_name: str
    history: list[Entry]  # ended turns, oldest first; the worker appends to it after each turn
    mcp: Tools
    settings: dict[str, Any]
    workdir: Path
    config: dict[str, Any] = field(default_factory=dict, repr=False)  # for built-in agents: model, key; of each turn
    thread: str = ""  # in the chat, where its platform has threads and this conversation is in one


@dataclass(frozen=True, slots=True)
class Turn:
    """One message to answer."""

    id: str
    text: str
    sender: str
    sender_name: str = ""
    attachments: tuple[File, ...] = field(default=())
    attempt: int = 1


class Out(Protocol):
    """The way back to the chat. From a plain-function agent's thread each of these is called without ``await``."""

    async def delta(self, text: str) -> None:
        """More of the answer. Returns at once unless the supervisor is far behind."""

    async def tool(self, name: str, args: str | dict[str, Any], state: str) -> None:
        """Tell that a tool is "started", "done" or "failed"."""

    async def status(self, text: str) -> None:
        """One line for people on what is going on; never part of the answer."""

    async def send(self, target: str, text: str, files: Sequence[str] = ()) -> None:
        """A message besides the answer. Returns when the supervisor has it on disk. Possible after the turn, too.

        ``target``: "" for this chat, or ``platform:chat`` or ``platform:chat:thread`` of one that somebody has written
        from; else this chat is told that it was not sent. ``[[as_sticker]]`` or ``[[audio_as_voice]]`` in the text says
        what the ``files`` are meant as, and is not shown.
        """

    async def usage(self, tokens: Mapping[str, int]) -> None:
        """Count what the turn has used: ``prompt_tokens``, ``completion_tokens``. Several calls add up."""

    async def ask(self, question: str, choices: Sequence[str] = ("approve", "deny"), timeout: float = 300.0) -> str:
        """Wait for the user's choice; "" when it was declined (/deny where "deny" is no choice), time ran out or nobody
        could be asked. The turn shows as *waiting*."""


class Agent(Protocol):
    """What a factory returns. Optional besides: ``interrupt(reason)``, ``steer(text) -> bool``, ``close()``,
    ``snapshot() -> bytes``, ``restore(bytes)``, ``describe(path) -> str``, ``settled()``: the end of the last turn is
    in hermesd's journal, and ``sample(request: SampleRequest) -> Sample``: without it MCP servers are told that there
    is no model for them to ask. Each may be a coroutine function.
    """

    async def turn(self, turn: Turn, out: Out) -> str | None:
        """Answer one message. The return value is the whole answer; None means what was sent by ``delta``.

        An exception fails this turn only: the agent and its servers stay for the next one.
        """


Factory = Callable[[Session], Agent]
