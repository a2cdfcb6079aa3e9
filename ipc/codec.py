"""Messages to bytes and back: one MessagePack map ``{v, t, seq, ack, ...fields}`` per frame.

`Codec.decode` is a border: whatever bytes come in, it returns an `Envelope` or raises `PeerError`. `Codec.encode` is
its mirror: what it lets out, a peer of the same version can read; anything else is a `LocalError` at the sender.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

import msgpack  # type: ignore[import-untyped]

from .errors import Incompatible, LocalError, PeerError
from .messages import Message
from .schema import MAX_ITEMS, Misfit, Schema, schema_of
from .version import WIRE_VERSION

MAX_FRAME: Final = 8 * 1024 * 1024
"""Bytes of one frame, unless a codec is given another limit."""

_MAX_NUMBER: Final = 2**62  # of seq, ack and epoch: room to count on without leaving MessagePack's 64 bits
_RESERVED: Final = frozenset({"v", "t", "seq", "ack", "e"})
_UNPACK_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException)
_PACK_ERRORS: Final = (ValueError, TypeError, OverflowError)  # UnicodeEncodeError is a ValueError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ack(Message):
    """Nothing but its envelope: an acknowledgement that found no message to ride on. Every codec knows it."""

    KIND: ClassVar[str] = "ack"
    RELIABLE: ClassVar[bool] = False


class Envelope(NamedTuple):
    """One frame: the message, its number (0 = not numbered), the highest number of ours that the peer acknowledges."""

    message: Message
    seq: int = 0
    ack: int = 0
    epoch: int = 0


class Packed(NamedTuple):
    """A message in bytes without its envelope; `Codec.seal` gives it one, as often as it is resent."""

    head: bytes  # the map's header, version and kind, up to the value of "seq"
    head_with_epoch: bytes
    fields: bytes


class _Kind(NamedTuple):
    schema: Schema
    head: bytes
    head_with_epoch: bytes
    header_size: int


class Codec:
    """Translates the given message types; stateless, may be shared by links and threads.

    ``accepts`` narrows what `decode` takes, for a process that only sends the others.
    """

    def __init__(
        self, *types: type[Message], accepts: Iterable[type[Message]] | None = None, max_frame: int = MAX_FRAME
    ) -> None:
        self.max_frame = max_frame
        self._kinds: dict[type[Message], _Kind] = {}
        names: dict[str, type[Message]] = {}
        known: tuple[type[Message], ...] = (Ack, *types)
        for cls in known:
            if not cls.KIND or names.setdefault(cls.KIND, cls) is not cls:
                raise LocalError(f"cannot make a codec: {cls.__name__} needs a KIND of its own, not {cls.KIND!r}")
            self._kinds[cls] = _kind_of(cls)
        accepted: tuple[type[Message], ...] = known if accepts is None else (Ack, *accepts)
        self._readers = {cls.KIND: self._kinds[cls].schema.read for cls in accepted}

    def encode(self, message: Message, seq: int = 0, ack: int = 0, epoch: int = 0) -> bytes:
        """One frame. Raises `LocalError` for what the wire cannot carry."""
        return self.seal(self.pack(message), seq, ack, epoch)

    def pack(self, message: Message) -> Packed:
        """The part of a frame that stays the same when it is resent. Raises `LocalError`."""
        kind = self._kinds.get(type(message))
        if kind is None:
            raise LocalError(f"cannot send a {type(message).__name__}: this codec does not know it")
        fields = _pack(message.KIND, kind.schema, message)[kind.header_size :]
        size = len(kind.head_with_epoch) + len(fields) + _ENVELOPE_ROOM
        if size > self.max_frame:
            raise LocalError(f"cannot send {message.KIND}: it needs {size} bytes, {self.max_frame} at most")
        return Packed(kind.head, kind.head_with_epoch, fields)

    def seal(self, packed: Packed, seq: int, ack: int, epoch: int = 0) -> bytes:
        """A frame of a packed message. The numbers have a fixed width, so its size does not depend on them."""
        if epoch:
            parts = (packed.head_with_epoch, _number(seq), _ACK_KEY, _number(ack), _EPOCH_KEY, _number(epoch))
            return b"".join((*parts, packed.fields))
        return b"".join((packed.head, _number(seq), _ACK_KEY, _number(ack), packed.fields))

    def decode(self, frame: bytes) -> Envelope:
        """The envelope in a frame. Raises `PeerError` (`Incompatible` for another version), never anything else."""
        size = len(frame)
        if size > self.max_frame:
            raise PeerError(f"cannot read a frame: it has {size} bytes, {self.max_frame} at most")
        plain = _unpack(frame)
        if type(plain) is not dict:
            raise PeerError(f"cannot read a frame: it holds a {type(plain).__name__}, not a map")
        version = plain.pop("v", None)
        if type(version) is not int:
            raise PeerError("cannot read a frame: it has no version")
        if version != WIRE_VERSION:
            raise Incompatible(f"cannot read a frame: it has version {version} of the wire, this side {WIRE_VERSION}")
        kind = plain.pop("t", None)
        read = self._readers.get(kind) if type(kind) is str else None
        if read is None:
            raise PeerError(f"cannot read a frame: its kind {kind!a:.60} is unknown here")
        seq = plain.pop("seq", None)
        ack = plain.pop("ack", None)
        epoch = plain.pop("e", 0)
        for number in (seq, ack, epoch):
            if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
                raise PeerError(f"cannot read {kind}: {number!a:.60} is no sequence number")
        try:
            return Envelope(read(plain), seq, ack, epoch)
        except Misfit as misfit:
            raise PeerError(f"cannot read {kind}: {misfit}") from misfit


def pack_value(value: Any, max_size: int = MAX_FRAME) -> bytes:
    """A dataclass in bytes, for a pipe between two processes of ours. Raises `LocalError`.

    The supervisor hands a worker its spec in this form; the worker reads the pipe to its end and calls `unpack_value`.
    """
    name = type(value).__name__
    fields = _pack(name, schema_of(type(value)), value)
    data: bytes = msgpack.packb(WIRE_VERSION) + fields
    if len(data) > max_size:
        raise LocalError(f"cannot pack a {name}: it needs {len(data)} bytes, {max_size} at most")
    return data


def unpack_value(cls: type[T], data: bytes, max_size: int = MAX_FRAME) -> T:
    """The dataclass that `pack_value` packed. Raises `PeerError` (`Incompatible` for another version)."""
    name = cls.__name__
    schema = schema_of(cls)
    if len(data) > max_size:
        raise PeerError(f"cannot read a {name}: it has {len(data)} bytes, {max_size} at most")
    if not data or data[0] > 127:  # the version is a positive fixint
        raise PeerError(f"cannot read a {name}: there is no version before it")
    if data[0] != WIRE_VERSION:
        raise Incompatible(f"cannot read a {name}: it has version {data[0]} of the wire, this side {WIRE_VERSION}")
    try:
        value: T = schema.read(_unpack(data[1:]))
    except Misfit as misfit:
        raise PeerError(f"cannot read a {name}: {misfit}") from misfit
    return value


def clean(text: str) -> str:
    """The text without lone surrogates, which no UTF-8 can hold: pairs are joined, lone ones become U+FFFD.

    Adapters and agents call it on text from outside; JSON decoders do let such text through.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _kind_of(cls: type[Message]) -> _Kind:
    schema = schema_of(cls)
    taken = _RESERVED.intersection(schema.names)
    if taken:
        raise LocalError(f"cannot make a codec: {cls.__name__} has a field {min(taken)!r}, a name of the envelope")
    constant = b"".join(map(msgpack.packb, ("v", WIRE_VERSION, "t", cls.KIND, "seq")))
    count = len(schema.names)
    heads = [msgpack.Packer().pack_map_header(count + extra) + constant for extra in (4, 5)]
    return _Kind(schema, heads[0], heads[1], len(msgpack.Packer().pack_map_header(count)))


def _number(value: int) -> bytes:
    return b"\xcf" + value.to_bytes(8, "big")


_ACK_KEY: Final[bytes] = msgpack.packb("ack")
_EPOCH_KEY: Final[bytes] = msgpack.packb("e")
_ENVELOPE_ROOM: Final = 3 * len(_number(0)) + len(_ACK_KEY) + len(_EPOCH_KEY)


def _pack(what: str, schema: Schema, value: Any) -> bytes:
    try:
        packed: bytes = msgpack.packb(schema.write(value))
    except Misfit as misfit:
        raise LocalError(f"cannot send {what}: {misfit}") from misfit
    except UnicodeEncodeError as error:
        excerpt = error.object[max(0, error.start - 20) : error.end + 20]
        raise LocalError(f"cannot send {what}: lone surrogates in {excerpt!a}; clean() the text first") from error
    except _PACK_ERRORS as error:
        raise LocalError(f"cannot send {what}: {error}") from error
    return packed


def _unpack(data: bytes) -> Any:
    size = len(data)
    items = min(size, MAX_ITEMS)
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=items,
            max_map_len=items,
            max_ext_len=0,
        )
    except _UNPACK_ERRORS as error:
        raise PeerError(f"cannot read a frame: {type(error).__name__}: {error!s:.200}") from error
