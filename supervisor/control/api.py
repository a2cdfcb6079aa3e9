"""The control API: THE table of verbs, each with what it needs and who answers it.

To review what can be done to a running hermesd, read `VERBS`. To add a verb, add a row here and the method of that name
to the object that hermesd gives to `hermesd.supervisor.control.server.ControlServer`; `check_handlers` compares the two
at the start.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .access import Access
from .errors import CannotServe, Code, Refused

LIST_LIMIT = 1000

TEXT_LIMIT = 256 * 1024
"""Characters of one message."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a verb. ``kind`` is its Python type; ``list`` is a list of texts. ``limit`` is in characters."""

    kind: type
    required: bool = False
    default: Any = None
    limit: int = 4096

    def check(self, name: str, value: Any) -> Any:
        """The value, as the handler gets it. Raises ValueError with a sentence."""
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise ValueError(f'"{name}" must be {_NAMES[self.kind]}, not {value!r:.60}')
        if self.required and not value:
            raise ValueError(f'"{name}" must not be empty')
        match value:
            case float() if not 0 <= value < float("inf"):
                raise ValueError(f'"{name}" must be a number of 0 or more, not {value}')
            case str():
                self._check_text(name, value)
            case list():
                if len(value) > LIST_LIMIT:
                    raise ValueError(f'"{name}" has {len(value)} items; the most is {LIST_LIMIT}')
                for item in value:
                    self._check_text(name, item)
        return value

    def _check_text(self, name: str, value: Any) -> None:
        if type(value) is not str:
            raise ValueError(f'"{name}" must be text, not {value!r:.60}')
        if len(value) > self.limit:
            raise ValueError(f'"{name}" is {len(value)} characters long; the most is {self.limit}')


_NAMES: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}


@dataclass(frozen=True, slots=True)
class Verb:
    """One row.

    ``handler`` names the method. It is ``async def(params) -> dict``; with ``streams`` it is an async generator over
    events that may end with a `Done`; with ``inputs`` (the parameters of each) it takes ``(params, inputs)``, where the
    latter is an async iterator over what the client sends; it ends when the client has said that nothing more comes.

    A streaming handler yields its first event at once, for the client takes silence as a hermesd that hangs. It only
    watches: when its client leaves it is closed, and what was set in motion goes on.
    """

    access: Access
    handler: str
    help: str
    params: Mapping[str, Param] = field(default_factory=dict)
    streams: bool = False
    inputs: Mapping[str, Param] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The last thing that a streaming handler yields: its result. Without one the result is empty."""

    result: Mapping[str, Any]


_SESSIONS = Param(list, required=True)

_IDS = Param(list, required=True)

_CHOICE = {"state": Param(str, default=""), "session": Param(str, default=""), "limit": Param(int, default=50)}

VERBS: Mapping[str, Verb] = {
    "version": Verb(Access.READ, "version", "version and pid of hermesd"),
    "status": Verb(Access.READ, "status", "how hermesd is doing"),
    "ps": Verb(
        Access.READ,
        "ps",
        "the workers, with CPU and memory of their whole trees",
        {"tree": Param(bool, default=False)},
    ),
    "doctor": Verb(Access.READ, "doctor", "the checks that need a running hermesd"),
    "doctor.fix": Verb(
        Access.ADMIN, "doctor_fix", "end and remove what an earlier hermesd of this home has left", streams=True
    ),
    "logs.path": Verb(Access.READ, "logs_path", "where the log file is"),
    "sessions.list": Verb(Access.READ, "sessions_list", "every session that was ever used"),
    "sessions.show": Verb(
        Access.READ, "sessions_show", "one session and its last turns", {"session": Param(str, required=True)}
    ),
    "sessions.reset": Verb(
        Access.ADMIN, "sessions_reset", "forget the conversation of sessions", {"sessions": _SESSIONS}
    ),
    "inbox.list": Verb(Access.READ, "inbox_list", "the messages of users, the newest first", _CHOICE),
    "inbox.show": Verb(Access.READ, "inbox_show", "one message of a user, whole", {"id": Param(str, required=True)}),
    "inbox.retry": Verb(
        Access.ADMIN, "inbox_retry", "queue messages again that ended without an answer", {"ids": _IDS}
    ),
    "inbox.drop": Verb(Access.ADMIN, "inbox_drop", "set messages aside that wait, or dead letters", {"ids": _IDS}),
    "outbox.list": Verb(Access.READ, "outbox_list", "the messages to chats, the newest first", _CHOICE),
    "outbox.show": Verb(Access.READ, "outbox_show", "one message to a chat, whole", {"id": Param(str, required=True)}),
    "outbox.retry": Verb(
        Access.ADMIN, "outbox_retry", "send messages again that failed, or that may not have arrived", {"ids": _IDS}
    ),
    "outbox.drop": Verb(Access.ADMIN, "outbox_drop", "give up messages that were not sent", {"ids": _IDS}),
    "stop": Verb(
        Access.ADMIN,
        "stop",
        "drain and end hermesd, or the workers of some sessions",
        {"sessions": Param(list, default=()), "timeout_s": Param(float)},
        streams=True,
    ),
    "restart": Verb(
        Access.ADMIN,
        "restart",
        "end the workers of sessions and start new ones",
        {"sessions": _SESSIONS, "timeout_s": Param(float)},
        streams=True,
    ),
    "restart.supervisor": Verb(
        Access.ADMIN, "restart_supervisor", "exec hermesd anew in place, on the workers that there are"
    ),
    "drain": Verb(
        Access.ADMIN,
        "drain",
        "begin no new turns, and wait for those that run",
        {"session": Param(str, default=""), "timeout_s": Param(float)},
        streams=True,
    ),
    "undrain": Verb(Access.ADMIN, "undrain", "begin new turns again", {"session": Param(str, default="")}),
    "reload": Verb(
        Access.ADMIN, "reload", "read the configuration again and apply it", {"dry_run": Param(bool, default=False)}
    ),
    "send": Verb(
        Access.ADMIN,
        "send",
        "send a message to a chat",
        {
            "platform": Param(str, default=""),
            "chat": Param(str, default=""),
            "thread": Param(str, default=""),
            "session": Param(str, default=""),
            "text": Param(str, required=True, limit=TEXT_LIMIT),
            "key": Param(str, default="", limit=200),
            "unseen": Param(bool, default=False),
        },
        streams=True,
    ),
    "platforms.list": Verb(Access.READ, "platforms_list", "the platforms and how each is connected"),
    "platforms.pause": Verb(
        Access.ADMIN,
        "platforms_pause",
        "disconnect a platform until it is resumed",
        {"name": Param(str, required=True)},
    ),
    "platforms.resume": Verb(
        Access.ADMIN, "platforms_resume", "connect a paused platform again", {"name": Param(str, required=True)}
    ),
    "platforms.reconnect": Verb(
        Access.ADMIN, "platforms_reconnect", "connect a platform anew, now", {"name": Param(str, required=True)}
    ),
    "webhook.list": Verb(Access.READ, "webhook_list", "the routes on which programs hand in events"),
    "webhook.subscribe": Verb(
        Access.ADMIN,
        "webhook_subscribe",
        "make a route, or change one",
        {
            "name": Param(str, required=True, limit=100),
            "fields": Param(str, required=True, limit=TEXT_LIMIT),
        },
    ),
    "webhook.remove": Verb(
        Access.ADMIN, "webhook_remove", "take a route away", {"name": Param(str, required=True, limit=100)}
    ),
    "webhook.sample": Verb(
        Access.ADMIN,
        "webhook_sample",
        "a signed request to a route, for who tries it",
        {
            "name": Param(str, required=True, limit=100),
            "event": Param(str, default="", limit=100),
            "payload": Param(str, default="", limit=TEXT_LIMIT),
        },
    ),
    "mcp.list": Verb(
        Access.READ,
        "mcp_list",
        "the MCP servers, and those of each session with CPU and memory",
        {"figures": Param(bool, default=True)},
    ),
    "mcp.show": Verb(
        Access.READ,
        "mcp_show",
        "one MCP server: its configuration, its tools and who uses it",
        {"server": Param(str, required=True)},
    ),
    "mcp.reset": Verb(
        Access.ADMIN,
        "mcp_reset",
        "forget the failures of an MCP server, so that it is tried again at once",
        {"server": Param(str, required=True)},
    ),
    "mcp.restart": Verb(
        Access.ADMIN,
        "mcp_restart",
        "end the processes of an MCP server; the next call starts new ones",
        {"server": Param(str, required=True), "session": Param(str, default=""), "timeout_s": Param(float)},
        streams=True,
    ),
    "chat": Verb(
        Access.ADMIN,
        "chat",
        "talk to the local agent",
        {"name": Param(str, default=""), "waiting": Param(list, default=())},
        streams=True,
        inputs={
            "text": Param(str, required=True, limit=TEXT_LIMIT),
            "id": Param(str, default="", limit=100),
            "again": Param(bool, default=False),
        },
    ),
}
"""``stop``: no ``sessions`` is hermesd itself; ``timeout_s`` is how long the whole may take (None: as configured). Of
sessions, and in ``restart``, it is how long running turns may go on before they are interrupted (None: not at all).

Events and results of each verb are in `hermesd.supervisor.control.shapes`: ``stop`` and ``restart`` send `StopProgress`
and end with `StopResult` (hermesd) or `OutcomesDocument` (sessions); ``drain`` sends `StopProgress` and ends with
`DrainResult`; ``send`` sends one `SendDocument` as soon as the message is on disk and ends with another when its fate
is known; ``webhook.subscribe`` takes ``fields`` as the JSON object that the route is in its file;
``mcp.restart`` ends with `OutcomesDocument`; ``doctor.fix`` sends a
`LeftoversFound` and ends with `FixDocument`; ``chat`` takes `ChatLine`, sends `ChatEvent` and
ends with `ChatResult`; with ``waiting``, the ids of lines without an answer, it goes on with an earlier connection.
"""


def bind(verb_name: str, params: Mapping[str, Any]) -> tuple[Verb, dict[str, Any]]:
    """The row of a verb and its parameters, checked and with defaults. Raises `Refused`."""
    verb = VERBS.get(verb_name)
    if verb is None:
        raise Refused(
            Code.UNKNOWN_VERB,
            f"this hermesd has no verb {verb_name[:60]!r}",
            "compare the versions: hermesctl version",
        )
    return verb, _check(verb_name, verb.params, params)


def bind_input(verb_name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a client sent into a running request, checked. Raises `Refused`."""
    verb = VERBS[verb_name]
    if not verb.inputs:
        raise Refused(Code.USAGE, f"{verb_name} takes no input")
    return _check(f"an input of {verb_name}", verb.inputs, data)


def _check(what: str, params: Mapping[str, Param], values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(values) - set(params))
    if unknown:
        known = ", ".join(params) or "none"
        raise Refused(Code.USAGE, f"{what} has no parameter {unknown[0][:60]!r}; it has: {known}")
    checked: dict[str, Any] = {}
    for name, param in params.items():
        value = values.get(name)
        if value is None:
            if param.required:
                raise Refused(Code.USAGE, f'{what} needs the parameter "{name}"')
            checked[name] = list(param.default) if param.kind is list else param.default
            continue
        try:
            checked[name] = param.check(name, value)
        except ValueError as error:
            raise Refused(Code.USAGE, f"{what}: {error}") from error
    return checked


def check_handlers(handlers: object) -> None:
    """Compares the table with the object that answers. Raises `CannotServe` naming every row that does not fit."""
    faults = []
    for name, verb in VERBS.items():
        method = getattr(handlers, verb.handler, None)
        if verb.streams and not inspect.isasyncgenfunction(method):
            faults.append(f"{verb.handler} ({name}) must be an async generator")
        if not verb.streams and not inspect.iscoroutinefunction(method):
            faults.append(f"{verb.handler} ({name}) must be a coroutine function")
    if faults:
        raise CannotServe(f"{type(handlers).__name__} does not fit the table of verbs: {'; '.join(faults)}")
