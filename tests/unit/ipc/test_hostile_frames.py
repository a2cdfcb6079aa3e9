"""What a peer may put on the wire, which is anything: a codec reads or refuses it, and a link is never thrown off."""

from __future__ import annotations

import random
from typing import Any

import msgpack
from harness.mutations import mutated
from hypothesis import given, settings
from hypothesis import strategies as st

from hermesd.ipc.codec import Codec
from hermesd.ipc.errors import PeerError
from hermesd.ipc.link import Confirmed, Delivered, Link, Received, Refused
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Accept,
    Ask,
    Delta,
    Finished,
    Heartbeat,
    Hello,
    LogRecord,
    Logs,
    Message,
    Send,
    ServerReport,
    Servers,
    Snapshot,
)

CODEC = Codec(*DOWN, *UP, accepts=UP)
SENDER = Codec(*DOWN, *UP)
MESSAGES: list[Message] = [
    Hello("w1", "token", 1, 2, "1"),
    Heartbeat("t", 0.5),
    Accept("t"),
    Delta("t", "text"),
    Send("s", "t", "", "text"),
    Ask("a", "t", "sure?", ("yes", "no"), 30.0),
    Finished("t", "done", "text", usage={"prompt_tokens": 3, "deep": {"a": [None, 1.5]}}),
    Servers((ServerReport("time", 1, "ready", 3, 4),)),
    Logs((LogRecord(1.0, 20, "agent", "text"),), 3),
    Snapshot("k", "s", True, "", "t", "so far", (Ask("a", "t", "?", ("yes",), 3.0),)),
]
FRAMES = [SENDER.encode(message, 1 if message.RELIABLE else 0) for message in MESSAGES]
NAMES = ["", "t", "other-turn", "agent:main:test:dm:other"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip
keys = st.sampled_from(["v", "t", "seq", "ack", "e", "turn", "text", "usage", "servers", "records", "asks", "?"])
nearly = st.fixed_dictionaries(
    {
        "v": st.just(1),
        "t": st.sampled_from([cls.KIND for cls in UP]),
        "seq": st.integers(0, 3),
        "ack": st.integers(0, 3),
    },
    optional={"turn": st.text(max_size=3), "text": anything, "usage": anything, "servers": anything, "asks": anything},
)
packed = st.one_of(anything, nearly, st.dictionaries(keys, anything, max_size=6)).map(msgpack.packb)
spoilt = st.tuples(st.integers(0, 2**32), st.sampled_from(FRAMES)).map(
    lambda drawn: mutated(drawn[1], FRAMES, NAMES, random.Random(drawn[0]))
)


@settings(max_examples=500)
@given(packed | spoilt)
def test_the_codec_reads_it_or_refuses_it_with_a_sentence(frame: bytes) -> None:
    try:
        envelope = CODEC.decode(frame)
    except PeerError as refusal:
        why = str(refusal)
    else:
        why = ""
    if why:
        assert why.startswith("cannot read")
        assert len(why) < 1000
        return
    again = CODEC.decode(SENDER.encode(*envelope))  # what was let in fits its annotations
    assert again == envelope or _holds_nan(envelope.message)


@settings(max_examples=500)
@given(st.lists(spoilt | spoilt | packed, max_size=4), st.booleans())
def test_a_link_counts_it_and_goes_on_with_what_is_right(frames: list[bytes], leads: bool) -> None:
    link = Link(CODEC, leads=leads)
    link.send(Delta("mine", "text"))  # something that may be acknowledged
    link.frames(0.0)
    taken = 0
    for frame in frames:
        for event in link.receive(frame, 0.0):
            taken += isinstance(event, Received) and event.seq > 0
            assert not isinstance(event, Refused) or str(event.error).startswith("cannot ")
            assert not isinstance(event, Confirmed | Delivered) or event.message == Delta("mine", "text")
        link.frames(0.0)
    if link.epoch:
        assert not leads
        return
    (event,) = (one for one in link.receive(SENDER.encode(Accept("t"), taken + 1), 0.0) if isinstance(one, Received))
    assert event.message == Accept("t")


def _holds_nan(value: Any) -> bool:
    """NaN differs from itself; it may come in a field of any type."""
    return "nan" in repr(value)
