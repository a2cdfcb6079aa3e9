"""Frames that are nearly right: seeded mutations of valid ones, in bytes and in what the bytes mean."""

from __future__ import annotations

import random
from typing import Any

import msgpack

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**62, 2**63, 2**64 - 1, 0.0, float("nan"), float("inf"), "", "x" * 300, "\x00",
    b"\xff", b"", [], {}, [[]] * 40, {"a": {"a": {"a": {}}}}, ["x"] * 200, {"v": 1},
)  # fmt: skip


def mutated(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    """One of the ways to spoil a frame; ``names`` are ids of other sessions, turns and asks to put into it."""
    ways = (_flip, _cut, _insert, _splice, _value, _value, _envelope, _envelope, _rename, _name, _name, _name)
    return chance.choice(ways)(frame, others, names, chance)


def _flip(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    spoilt = bytearray(frame)
    for _ in range(chance.choice((1, 1, 2, 8))):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def _cut(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    begin, end = sorted((chance.randrange(len(frame) + 1), chance.randrange(len(frame) + 1)))
    return frame[:begin] + frame[end:]


def _insert(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    at = chance.randrange(len(frame) + 1)
    return frame[:at] + chance.randbytes(chance.choice((1, 3, 50))) + frame[at:]


def _splice(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return frame[: chance.randrange(len(frame) + 1)] + other[chance.randrange(len(other) + 1) :]


def _value(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    content = msgpack.unpackb(frame)
    content[chance.choice(list(content))] = chance.choice(ODD)
    return bytes(msgpack.packb(content))


def _envelope(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    """Valid in itself; what it claims about the conversation is made up."""
    content = msgpack.unpackb(frame)
    content[chance.choice(("seq", "ack", "e"))] = chance.choice((0, 1, 2, 3, chance.randrange(100), 2**40, 2**62))
    return bytes(msgpack.packb(content))


def _rename(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    content = msgpack.unpackb(frame)
    key = chance.choice(list(content))
    content[chance.choice(("v", "t", "turn", "session_key", "?"))] = content.pop(key)
    return bytes(msgpack.packb(content))


def _name(frame: bytes, others: list[bytes], names: list[str], chance: random.Random) -> bytes:
    """A message of another session: its turn, its key, its question."""
    content = msgpack.unpackb(frame)
    fields = [key for key in ("turn", "session_key", "ask", "worker", "token", "id") if key in content]
    if fields:
        content[chance.choice(fields)] = chance.choice(names)
    return bytes(msgpack.packb(content))
