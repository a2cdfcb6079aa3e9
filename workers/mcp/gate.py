"""What a server has to pass before each start: the supervisor's word, for one restart budget holds over all sessions.

`Gate` asks over the wire; `OpenGate` stands in where there is no supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hermesd.ipc.mcp import ServerSpec, ToolInfo
from hermesd.ipc.messages import KnownTools, Listed, Message, ServerNews, StartAnswer, StartRequest
from hermesd.workers.agents.contract import Tool


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to start one process; ``probe``: it may be asked for the stateless revision first.

    ``again``: it has failed before, so that it is not worth waiting for.
    """

    number: int = 0
    probe: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """``next_try``: Unix seconds, 0 = not known."""

    reason: str
    next_try: float


Verdict = Grant | Refusal | tuple[Tool, ...]
"""A tuple: its tools are known, and for them nothing needs to be started."""


class Warden(Protocol):
    """Who gives leave. All of it on the event loop's thread."""

    def ask(self, spec: ServerSpec, *, for_tools: bool, then: Callable[[Verdict], None]) -> None:
        """``then`` is called once, now or later, and not at all after `withdraw`. One question per server."""

    def withdraw(self, spec: ServerSpec) -> None:
        """The answer is not needed any more."""

    def tell(self, spec: ServerSpec, grant: int, event: str, reason: str = "", *, permanent: bool = False) -> None:
        """What became of a grant, in the words of `hermesd.ipc.messages.ServerNews`."""

    def listed(self, spec: ServerSpec, tools: list[Tool]) -> None:
        """The server has just said which tools it has."""


class OpenGate:
    """Lets everything through."""

    def ask(self, spec: ServerSpec, *, for_tools: bool, then: Callable[[Verdict], None]) -> None:
        then(Grant())

    def withdraw(self, spec: ServerSpec) -> None:
        pass

    def tell(self, spec: ServerSpec, grant: int, event: str, reason: str = "", *, permanent: bool = False) -> None:
        pass

    def listed(self, spec: ServerSpec, tools: list[Tool]) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Question:
    message: StartRequest
    then: Callable[[Verdict], None]


class Gate:
    """Asks the supervisor by ``post``, which must keep the order of messages."""

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._open: dict[str, _Question] = {}  # by the server's name
        self._count = 0

    def ask(self, spec: ServerSpec, *, for_tools: bool, then: Callable[[Verdict], None]) -> None:
        self._count += 1
        message = StartRequest(spec.name, spec.config, self._count, for_tools)
        self._open[spec.name] = _Question(message, then)
        self._post(message)

    def withdraw(self, spec: ServerSpec) -> None:
        # A grant that is under way meets nobody and is given back; one that waits is given then, and given back.
        self._open.pop(spec.name, None)

    def tell(self, spec: ServerSpec, grant: int, event: str, reason: str = "", *, permanent: bool = False) -> None:
        self._post(ServerNews(spec.name, spec.config, grant, event, reason, permanent))

    def listed(self, spec: ServerSpec, tools: list[Tool]) -> None:
        found = tuple(ToolInfo(tool.name, tool.description, tool.schema) for tool in tools)
        self._post(Listed(spec.name, spec.config, found))

    def ask_again(self) -> None:
        """Another supervisor has taken over: it knows of no question. Called after it was told how things stand."""
        for question in self._open.values():
            self._post(question.message)

    def answered(self, message: StartAnswer | KnownTools) -> None:
        """Called for each answer; gives a grant back that nobody asks for any more."""
        question = self._open.get(message.server)
        if question is None or question.message.request != message.request:
            if isinstance(message, StartAnswer) and message.granted:
                self._post(ServerNews(message.server, message.config, message.grant, "withdrawn"))
            return
        del self._open[message.server]
        if isinstance(message, KnownTools):
            question.then(
                tuple(Tool(message.server, info.name, info.description, info.schema) for info in message.tools)
            )
        elif message.granted:
            question.then(Grant(message.grant, message.probe, message.again))
        else:
            question.then(Refusal(message.reason, message.next_try))
