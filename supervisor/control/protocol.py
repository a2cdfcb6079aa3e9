"""What travels over the control socket: MessagePack maps in length-prefixed frames (`hermesd.ipc.framing`).

A client numbers its requests and may have several open at once. Each is answered by any number of `Event`s and then by
exactly one `Result` or `Fault` with the same number, except after a `Cancel`. Number 0 answers bytes that belong to no
request.

======================================  ==========================================
client to hermesd                       hermesd to client
======================================  ==========================================
``{"id", "verb", "params"}`` Request    ``{"id", "event": {...}}`` Event
``{"id", "input": {...}}`` Input        ``{"id", "result": {...}}`` Result
``{"id", "end": true}`` EndOfInput      ``{"id", "error": {...}}`` Fault
``{"id", "cancel": true}`` Cancel
======================================  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]

from hermesd.ipc.errors import LocalError, PeerError

REQUEST_LIMIT = 1 << 20
"""Bytes of one frame from a client: the longest chat line and some more."""

RESPONSE_LIMIT = 16 << 20
"""Bytes of one frame from hermesd: ``ps --tree`` of a thousand workers fits."""

REQUEST_ITEMS = 4096
RESPONSE_ITEMS = 1 << 20
"""Entries of one list or map. The unpacker makes room for as many as a header claims before it has seen one."""

UNREADABLE = 0
"""The request number of a `Fault` that answers bytes which belong to no request."""


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    verb: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Input:
    """More for a running request of an interactive verb, such as one line of a chat."""

    id: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """No more `Input` will come; the request ends when what came is answered."""

    id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client no longer wants the answer. What the request has set in motion goes on."""

    id: int


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    id: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """The request failed: ``code`` is a word of `hermesd.supervisor.control.errors`, ``next_step`` the way on."""

    id: int
    code: str
    message: str
    next_step: str = ""


ClientFrame = Request | Input | EndOfInput | Cancel
ServerFrame = Event | Result | Fault


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """The payload of one frame. Raises `LocalError` for values that MessagePack cannot carry.

    Text that is no Unicode (lone surrogates from argv) is sent with "?" in their place.
    """
    match frame:
        case Request():
            body: dict[str, Any] = {"id": frame.id, "verb": frame.verb, "params": frame.params}
        case Input():
            body = {"id": frame.id, "input": frame.data}
        case EndOfInput():
            body = {"id": frame.id, "end": True}
        case Cancel():
            body = {"id": frame.id, "cancel": True}
        case Event():
            body = {"id": frame.id, "event": frame.data}
        case Result():
            body = {"id": frame.id, "result": frame.data}
        case Fault():
            body = {"id": frame.id, "error": {"code": frame.code, "message": frame.message, "next": frame.next_step}}
    try:
        packed: bytes = msgpack.packb(body, unicode_errors="replace")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalError(f"cannot send a control frame: {error}") from error
    return packed


def decode_client_frame(payload: bytes) -> ClientFrame:
    """What a client sent. Raises `PeerError` with a sentence that names the fault."""
    body, number = _open(payload, REQUEST_ITEMS)
    if number == UNREADABLE:
        raise PeerError("a request needs an id of 1 or more")
    if "verb" in body:
        _only(body, "id", "verb", "params")
        verb = body["verb"]
        if not isinstance(verb, str):
            raise PeerError('"verb" must be text')
        return Request(number, verb, _mapping(body, "params") if "params" in body else {})
    if "input" in body:
        _only(body, "id", "input")
        return Input(number, _mapping(body, "input"))
    if body.get("end") is True:
        _only(body, "id", "end")
        return EndOfInput(number)
    if body.get("cancel") is True:
        _only(body, "id", "cancel")
        return Cancel(number)
    raise PeerError('a frame needs one of "verb", "input", "end", "cancel"')


def decode_server_frame(payload: bytes) -> ServerFrame:
    """What hermesd sent. Unknown keys are let pass: a newer hermesd may say more. Raises `PeerError`."""
    body, number = _open(payload, RESPONSE_ITEMS)
    if "event" in body:
        return Event(number, _mapping(body, "event"))
    if "result" in body:
        return Result(number, _mapping(body, "result"))
    if "error" in body:
        error = _mapping(body, "error")
        return Fault(number, *(str(error.get(key, "")) for key in ("code", "message", "next")))
    raise PeerError('a frame needs one of "event", "result", "error"')


def _open(payload: bytes, items: int) -> tuple[dict[str, Any], int]:
    try:
        body = msgpack.unpackb(payload, max_array_len=items, max_map_len=items)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PeerError(f"not MessagePack: {error}") from error
    if not isinstance(body, dict):
        raise PeerError(f"a frame must be a map, not {type(body).__name__}")
    number = body.get("id")
    if type(number) is not int or not 0 <= number < 1 << 53:
        raise PeerError('"id" must be a whole number')
    return body, number


def _mapping(body: dict[str, Any], key: str) -> dict[str, Any]:
    value = body[key]
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise PeerError(f'"{key}" must be a map with text keys')
    return value


def _only(body: dict[str, Any], *known: str) -> None:
    unknown = [str(key) for key in body if key not in known]
    if unknown:
        raise PeerError(f"unknown key {', '.join(sorted(unknown))[:80]}")
