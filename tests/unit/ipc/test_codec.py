"""`hermesd.ipc.codec`: what goes out can be read, and nothing that comes in can do more than be refused."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_args, get_type_hints

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermesd.ipc import keeping
from hermesd.ipc.codec import Codec, Envelope, clean, pack_value, unpack_value
from hermesd.ipc.errors import Incompatible, LocalError, PeerError
from hermesd.ipc.mcp import ServerSpec
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Assign,
    Delta,
    Entry,
    File,
    Finished,
    Heartbeat,
    Logs,
    Message,
    StartTurn,
    Stop,
    Welcome,
)
from hermesd.ipc.schema import MAX_DEPTH, MAX_ITEMS
from hermesd.ipc.version import WIRE_VERSION
from hermesd.workers.spec import WorkerSpec

CODEC = Codec(*UP, *DOWN)
KEEPER_CODEC = Codec(*keeping.TO_KEEPER, *keeping.FROM_KEEPER)
START = StartTurn("turn-1", "hello", "user-1", "Ann", (File("/a", "a.txt"), File("/b", "b.txt", "image/png")), 2, 1.5)


def plain_frame(**changes: Any) -> bytes:
    """A valid Delta frame with changes; a change to ... leaves the key out."""
    content = {"v": WIRE_VERSION, "t": "delta", "seq": 1, "ack": 0, "turn": "t", "text": "x", **changes}
    packed: bytes = msgpack.packb({key: value for key, value in content.items() if value is not ...})
    return packed


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


DEEP = {"a": nested(40)}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation that messages use."""
    text = st.text(max_size=20)
    plain = st.one_of(text, st.none(), st.lists(st.integers(0, 9)))
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: text,
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        tuple[str, ...]: st.lists(text, max_size=3).map(tuple),
        tuple[int, ...]: st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
        dict[str, str]: st.dictionaries(text, text, max_size=3),
        dict[str, Any]: st.dictionaries(text, plain, max_size=3),
        Any: plain,
    }
    if hint in simple:
        return simple[hint]
    if type(None) in get_args(hint):
        (some,) = (inner for inner in get_args(hint) if inner is not type(None))
        return st.none() | (simple[some] if some in simple else instances(some))
    if getattr(hint, "__origin__", None) is tuple:
        return st.lists(instances(hint.__args__[0]), max_size=3).map(tuple)
    raise AssertionError(f"a message has a field of a new type, {hint}: teach this test about it")


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{entry.name: values(hints[entry.name]) for entry in fields(cls)})


# ---- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", dict.fromkeys((*UP, *DOWN)), ids=lambda cls: cls.KIND)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(instances(cls))
    seq, ack, epoch = (data.draw(st.integers(0, 2**62)) for _ in range(3))
    assert CODEC.decode(CODEC.encode(message, seq, ack, epoch)) == Envelope(message, seq, ack, epoch)


@pytest.mark.parametrize("cls", [*keeping.TO_KEEPER, *keeping.FROM_KEEPER], ids=lambda cls: cls.KIND)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_message_of_the_keeper_comes_back_as_it_was(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(instances(cls))
    assert KEEPER_CODEC.decode(KEEPER_CODEC.encode(message)).message == message


def test_the_frame_is_one_map_of_envelope_and_fields() -> None:
    assert msgpack.unpackb(CODEC.encode(Delta("t1", "hi"), seq=7, ack=3)) == {
        "v": WIRE_VERSION, "t": "delta", "seq": 7, "ack": 3, "turn": "t1", "text": "hi",
    }  # fmt: skip


def test_the_epoch_travels_only_when_there_is_one() -> None:
    assert msgpack.unpackb(CODEC.encode(Delta("t1", "hi"), 1, 0, epoch=2))["e"] == 2


def test_a_message_of_more_than_fifteen_keys_gets_a_longer_map_header() -> None:
    @dataclass(frozen=True, slots=True)
    class Wide(Message):
        KIND: ClassVar[str] = "wide"
        a: int = 0
        b: int = 1
        c: int = 2
        d: int = 3
        f: int = 4
        g: int = 5
        h: int = 6
        i: int = 7
        j: int = 8
        k: int = 9
        m: int = 10
        n: int = 11
        o: int = 12
        p: int = 13
        q: int = 14
        r: int = 15

    codec = Codec(Wide)
    for epoch in (0, 1):
        assert codec.decode(codec.encode(Wide(r=99), 1, 2, epoch)) == Envelope(Wide(r=99), 1, 2, epoch)


def test_missing_fields_take_their_defaults() -> None:
    frame = msgpack.packb(
        {"v": WIRE_VERSION, "t": "start_turn", "seq": 1, "ack": 0, "turn": "t", "text": "", "sender": ""}
    )
    assert CODEC.decode(frame).message == StartTurn("t", "", "")
    one, other = (CODEC.decode(CODEC.encode(Finished("t", "done"))).message for _ in range(2))
    assert isinstance(one, Finished)
    assert isinstance(other, Finished)
    assert one.usage is not other.usage


def test_a_float_field_takes_an_integer_and_gives_a_float() -> None:
    message = CODEC.decode(CODEC.encode(Heartbeat("t", 3))).message
    assert isinstance(message, Heartbeat)
    assert type(message.loop_age) is float


def test_optional_and_mapped_fields_are_checked_too() -> None:
    @dataclass(frozen=True, slots=True)
    class Other(Message):
        KIND: ClassVar[str] = "other"
        blob: bytes | None = None
        entries: dict[str, Entry] = field(default_factory=dict)

    codec = Codec(Other)
    for message in (Other(), Other(b"\x00\xff", {"a": Entry("user", "hi", 1.0)})):
        assert codec.decode(codec.encode(message)).message == message
    with pytest.raises(PeerError, match=r"entries\.a\.role is of type int, not a text"):
        codec.decode(
            msgpack.packb({"v": 1, "t": "other", "seq": 0, "ack": 0, "entries": {"a": {"role": 1, "text": ""}}})
        )
    with pytest.raises(PeerError, match="blob is of type str, not bytes"):
        codec.decode(msgpack.packb({"v": 1, "t": "other", "seq": 0, "ack": 0, "blob": "text"}))


# ---- what a peer may not send -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (plain_frame(t="gossip"), "its kind 'gossip' is unknown here"),
        (plain_frame(t=["delta"]), "is unknown here"),
        (plain_frame(t=...), "its kind None is unknown here"),
        (plain_frame(v=...), "it has no version"),
        (plain_frame(v=True), "it has no version"),
        (plain_frame(text=...), "text is missing"),
        (plain_frame(text=None), "text is nothing, not a text"),
        (plain_frame(text=b"x"), "text is of type bytes, not a text"),
        (plain_frame(colour="red"), "has an unknown field 'colour'"),
        (plain_frame(seq=-1), "-1 is no sequence number"),
        (plain_frame(seq=2**63), "is no sequence number"),
        (plain_frame(ack="1"), "'1' is no sequence number"),
        (plain_frame(e=1.5), "1.5 is no sequence number"),
        (plain_frame(seq=...), "None is no sequence number"),
        (msgpack.packb([1, 2]), "it holds a list, not a map"),
        (b"", "ValueError"),
        (plain_frame() + b"\x00", "ExtraData"),
        (plain_frame()[:-1], "incomplete"),
        (msgpack.packb({1: 2}), "int is not allowed for map key"),
        (b"\x81\xa1t" + b"\xa2\xff\xfe", "UnicodeDecodeError"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xc7\x01\x05x", "exceeds max_ext_len"),
        (b"\x91" * 5000 + b"\x00", "StackError"),
        (
            msgpack.packb({"v": 1, "t": "finished", "seq": 1, "ack": 0, "turn": "", "outcome": "", "usage": DEEP}),
            f"usage is nested more than {MAX_DEPTH} deep",
        ),
        (
            msgpack.packb({"v": 1, "t": "heartbeat", "seq": 0, "ack": 0, "turn": "", "loop_age": float("nan")}),
            "loop_age is not a finite number",
        ),
        (
            msgpack.packb({"v": 1, "t": "heartbeat", "seq": 0, "ack": 0, "turn": "", "loop_age": True}),
            "loop_age is of type bool, not a number",
        ),
        (
            msgpack.packb({"v": 1, "t": "logs", "seq": 0, "ack": 0, "records": [{"at": 1, "level": "high"}]}),
            "records.0.level is of type str, not an integer",
        ),
    ],
)  # fmt: skip
def test_a_wrong_frame_is_refused_with_a_sentence(frame: bytes, reason: str) -> None:
    with pytest.raises(PeerError) as caught:
        CODEC.decode(frame)
    assert reason in str(caught.value)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400


def test_another_version_is_told_apart() -> None:
    with pytest.raises(Incompatible, match="version 2 of the wire, this side 1"):
        CODEC.decode(plain_frame(v=2, t="from the future"))


def test_an_oversized_frame_is_refused_before_it_is_looked_at() -> None:
    codec = Codec(Delta, max_frame=100)
    with pytest.raises(PeerError, match="it has 101 bytes, 100 at most"):
        codec.decode(b"\xc1" * 101)


def test_a_codec_decodes_only_what_it_accepts() -> None:
    supervisor = Codec(*UP, *DOWN, accepts=UP)
    assert supervisor.decode(supervisor.encode(Delta("t", "x"))).message == Delta("t", "x")
    with pytest.raises(PeerError, match="'welcome' is unknown here"):
        supervisor.decode(supervisor.encode(Welcome()))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_do_more_than_be_refused(frame: bytes) -> None:
    with pytest.raises(PeerError):
        CODEC.decode(frame)


FRAMES = [
    CODEC.encode(START, 3, 4),
    CODEC.encode(Finished("t", "done", "text", usage={"a": [1, {"b": None}], "c": 1.5}), 5, 6, 7),
    CODEC.encode(Assign("k", "i", "p", "c", "u", "n", (Entry("user", "hé", 1.0),), {"x": {"y": b"z"}}), 1, 1),
]


@settings(max_examples=800, deadline=None)
@given(st.sampled_from(FRAMES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.data())
def test_a_mutated_frame_is_read_or_refused(frame: bytes, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    mutated = bytearray(frame)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    cut = data.draw(st.integers(0, len(mutated)))
    mutated = mutated[:cut] + data.draw(st.binary(max_size=3)) + mutated[data.draw(st.sampled_from([cut, cut + 1])) :]
    try:
        envelope = CODEC.decode(bytes(mutated))
    except PeerError:
        return
    CODEC.encode(*envelope)  # what was let in fits its annotations


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*UP, *DOWN]), st.data())
def test_a_map_with_wrong_values_is_read_or_refused(cls: type[Message], data: st.DataObject) -> None:
    names = [entry.name for entry in fields(cls)]
    keys = st.sampled_from([*names, "v", "t", "seq", "ack", "e", "?"])
    content = {"v": 1, "t": cls.KIND, "seq": 1, "ack": 0, **data.draw(st.dictionaries(keys, json_like, max_size=6))}
    try:
        message = CODEC.decode(msgpack.packb(content)).message
    except PeerError:
        return
    required = [entry.name for entry in fields(cls) if entry.default is MISSING and entry.default_factory is MISSING]
    assert content["t"] == message.KIND
    if type(message) is cls:
        assert set(required) <= content.keys()


# ---- what this side may not send --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Delta("t", "a\ud83dz"), r"lone surrogates in 'a\\ud83dz'"),
        (Delta("t", 5), "cannot send delta: text is of type int, not a text"),  # type: ignore[arg-type]
        (Delta("t", None), "text is nothing, not a text"),  # type: ignore[arg-type]
        (Stop("x", float("inf")), "grace is not a finite number"),
        (Stop("x", 10**400), "grace is too large a number"),
        (Finished("t", "done", usage={"when": {1, 2}}), "usage holds of type set, which the wire cannot carry"),
        (Finished("t", "done", usage={1: 2}), "usage has a key that is of type int"),  # type: ignore[dict-item]
        (Finished("t", "done", usage={"n": 2**64}), "cannot send finished: "),
        (Finished("t", "done", usage=DEEP), "is nested more than"),
        (Finished("t", "done", usage={"long": [0] * (MAX_ITEMS + 1)}), "65537 entries, 65536 at most"),
        (StartTurn("t", "", "", attachments=("file",)), "attachments.0 is of type str, not a File"),  # type: ignore[arg-type]
        (Logs((), dropped=True), "dropped is of type bool, not an integer"),
        (keeping.Leave(), "cannot send a Leave: this codec does not know it"),
    ],
)
def test_what_the_wire_cannot_carry_is_the_senders_error(message: Message, reason: str) -> None:
    with pytest.raises(LocalError, match=reason):
        CODEC.encode(message)


def test_an_endless_structure_is_the_senders_error() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(LocalError, match="nested"):
        CODEC.encode(Finished("t", "done", usage=loop))


def test_the_largest_frame_that_is_sent_is_one_that_is_read() -> None:
    codec = Codec(Delta, max_frame=1000)
    largest = 0
    for size in range(800, 1001):
        try:
            frame = codec.encode(Delta("t", "x" * size))
        except LocalError:
            break
        assert codec.decode(frame).message == Delta("t", "x" * size)
        largest = size
    assert 900 < largest < 1000
    with pytest.raises(LocalError, match="bytes, 1000 at most"):
        codec.encode(Delta("t", "x" * (largest + 1)))


def test_a_codec_refuses_types_it_cannot_tell_apart_or_carry() -> None:
    @dataclass(frozen=True, slots=True)
    class Twin(Message):
        KIND: ClassVar[str] = "delta"

    @dataclass(frozen=True, slots=True)
    class Clash(Message):
        KIND: ClassVar[str] = "clash"
        seq: int = 0

    @dataclass(frozen=True, slots=True)
    class Odd(Message):
        KIND: ClassVar[str] = "odd"
        members: set[int] = field(default_factory=set)

    for types, reason in (
        ((Delta, Twin), "Twin needs a KIND of its own"),
        ((Message,), "Message needs a KIND of its own, not ''"),
        ((Clash,), "Clash has a field 'seq', a name of the envelope"),
        ((Odd,), r"Odd.members is annotated set\[int\]"),
    ):
        with pytest.raises(LocalError, match=reason):
            Codec(*types)


# ---- values through a pipe, and texts ---------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(instances(WorkerSpec), st.binary(max_size=50))
def test_a_spec_comes_back_as_it_was_and_anything_else_is_refused(spec: WorkerSpec, noise: bytes) -> None:
    packed = pack_value(spec)
    assert unpack_value(WorkerSpec, packed) == spec
    for wrong in (noise, packed[:-1], packed + noise + b"\x00", b"\x01" + noise):
        with pytest.raises(PeerError):
            unpack_value(WorkerSpec, wrong)


def test_a_spec_says_what_is_wrong_with_it() -> None:
    with pytest.raises(LocalError, match=r"cannot send ServerSpec: args\.1 is of type int, not a text"):
        pack_value(ServerSpec("time", "uvx", ("a", 5)))  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="bytes, 10 at most"):
        pack_value(ServerSpec("time", "uvx" * 10), max_size=10)
    with pytest.raises(PeerError, match="bytes, 10 at most"):
        unpack_value(ServerSpec, pack_value(ServerSpec("time", "uvx" * 10)), max_size=10)
    with pytest.raises(Incompatible, match="version 9"):
        unpack_value(ServerSpec, b"\x09" + pack_value(ServerSpec("time", "uvx"))[1:])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("plain", "plain"), ("hé 😀", "hé 😀"), ("a\ud83d", "a\ufffd"), ("\ude00b", "\ufffdb"), ("\ud83d\ude00", "😀")],
)
def test_clean_replaces_lone_surrogates_and_joins_pairs(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@settings(deadline=None)
@given(st.text(st.characters(categories=None), max_size=30) | st.text("a\ud83d\ude00😀", max_size=10))
def test_clean_text_can_always_be_sent_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert CODEC.decode(CODEC.encode(Delta("t", cleaned))).message == Delta("t", cleaned)
    assert clean(cleaned) == cleaned
