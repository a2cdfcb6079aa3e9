"""The frames of the control socket, both ways, and what is no frame."""

from __future__ import annotations

import msgpack
import pytest

from hermesd.ipc.errors import LocalError, PeerError
from hermesd.supervisor.control.protocol import (
    REQUEST_ITEMS,
    Cancel,
    ClientFrame,
    EndOfInput,
    Event,
    Fault,
    Input,
    Request,
    Result,
    ServerFrame,
    decode_client_frame,
    decode_server_frame,
    encode,
)


@pytest.mark.parametrize(
    "frame",
    [
        Request(1, "status"),
        Request(7, "ps", {"tree": True}),
        Input(3, {"text": "häl\nlo 👋"}),
        EndOfInput(3),
        Cancel(3),
    ],
)
def test_what_a_client_says_arrives_as_it_was_said(frame: ClientFrame) -> None:
    assert decode_client_frame(encode(frame)) == frame


@pytest.mark.parametrize("frame", [Event(1, {"kind": "delta"}), Result(1, {}), Fault(0, "busy", "later", "wait")])
def test_what_hermesd_says_arrives_as_it_was_said(frame: ServerFrame) -> None:
    assert decode_server_frame(encode(frame)) == frame


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ([1], "must be a map"),
        ({}, '"id" must be'),
        ({"id": True, "verb": "ps"}, '"id" must be'),
        ({"id": -1, "verb": "ps"}, '"id" must be'),
        ({"id": 1 << 60, "verb": "ps"}, '"id" must be'),
        ({"id": 0, "verb": "ps"}, "id of 1 or more"),
        ({"id": 1}, "needs one of"),
        ({"id": 1, "verb": 5}, '"verb" must be text'),
        ({"id": 1, "verb": "ps", "params": []}, '"params" must be a map'),
        ({"id": 1, "verb": "ps", "sudo": 1}, "unknown key sudo"),
        ({"id": 1, "input": "hello"}, '"input" must be a map'),
        ({"id": 1, "input": {b"x": 1}}, "text keys"),
        ({"id": 1, "end": 1}, "needs one of"),
        ({"id": 1, "cancel": False}, "needs one of"),
    ],
)
def test_a_malformed_request_is_refused_with_what_is_wrong(body: object, complaint: str) -> None:
    with pytest.raises(PeerError, match=complaint):
        decode_client_frame(msgpack.packb(body))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",  # never used by MessagePack
        b"GET / HTTP/1.1\r\n\r\n",
        msgpack.packb({"id": 1})[:-1],
        msgpack.packb({"id": 1}) + b"\x00",
        b"\x81\xa1\xff\x01",  # text that is not UTF-8
        b"\x81\x90\x01",  # a list as key
        b"\x91" * 2000,
        b"\xdd\x00\x10\x00\x00" * 100,  # lists that claim a million entries each
        msgpack.packb({"id": 1, "verb": "stop", "params": {"sessions": ["s"] * (REQUEST_ITEMS + 1)}}),
    ],
)
def test_bytes_that_are_no_request_are_a_fault_of_the_peer(payload: bytes) -> None:
    with pytest.raises(PeerError):
        decode_client_frame(payload)


def test_text_that_is_no_unicode_is_sent_with_question_marks() -> None:
    sent = encode(Request(1, "sessions.show", {"session": "bad\udcff"}))
    assert decode_client_frame(sent) == Request(1, "sessions.show", {"session": "bad?"})


def test_a_value_that_the_wire_cannot_carry_is_our_own_fault() -> None:
    with pytest.raises(LocalError):
        encode(Result(1, {"when": object()}))
