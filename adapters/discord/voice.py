"""A recording as one of Discord's voice messages: how long it is and how its outline looks. Pure.

Such a message is an Ogg file of one Opus stream with these two figures beside it (Discord's documentation, Message
Resource, "Voice Messages"). Both are read from the file's pages (RFC 3533, RFC 7845), without decoding any sound: Opus
spends more bytes where there is more to hear, so that the sizes of its packets show where somebody speaks.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RATE = 48_000
"""Of the time in an Opus stream, whatever was recorded (RFC 7845, section 4)."""

POINTS = 256
POINTS_A_SECOND = 10
"""What Discord's own clients make at most."""

_PAGE = struct.Struct("<4sBBqIII")  # capture pattern, version, type, granule position, serial, sequence, checksum
_SETUP = (b"OpusHead", b"OpusTags")


@dataclass(frozen=True, slots=True)
class Voice:
    """``waveform``: base64 of one byte for each point, from silent to loud."""

    seconds: float
    waveform: str


def voice_of(data: bytes) -> Voice | None:
    """None for what is no Ogg Opus file with something in it; that is sent as an ordinary one."""
    pre_skip, end = -1, 0
    sizes: list[int] = []
    packet = b""
    for granule, pieces in _pages(data):
        for piece, whole in pieces:
            packet += piece
            if not whole:
                continue
            if pre_skip < 0:
                if not packet.startswith(_SETUP[0]) or len(packet) < 12:
                    return None
                pre_skip = int.from_bytes(packet[10:12], "little")
            elif not packet.startswith(_SETUP):
                sizes.append(len(packet))
            packet = b""
        end = max(end, granule)
    seconds = (end - pre_skip) / RATE
    if pre_skip < 0 or not sizes or seconds <= 0:
        return None
    return Voice(round(seconds, 3), base64.b64encode(bytes(_outline(sizes, seconds))).decode())


def _pages(data: bytes) -> Iterator[tuple[int, list[tuple[bytes, bool]]]]:
    """Each page's time, -1 for none, and its pieces of packets with whether a packet ends there."""
    at = 0
    while data.startswith(b"OggS", at) and at + _PAGE.size < len(data):
        _, _, _, granule, _, _, _ = _PAGE.unpack_from(data, at)
        count = data[at + _PAGE.size]
        lacing = data[at + _PAGE.size + 1 : at + _PAGE.size + 1 + count]
        at += _PAGE.size + 1 + count
        pieces: list[tuple[bytes, bool]] = []
        start = at
        for size in lacing:
            at += size
            if size < 255:
                pieces.append((data[start:at], True))
                start = at
        if start < at:
            pieces.append((data[start:at], False))
        yield granule, pieces


def _outline(sizes: list[int], seconds: float) -> list[int]:
    points = max(1, min(POINTS, round(seconds * POINTS_A_SECOND), len(sizes)))
    means = []
    for point in range(points):
        some = sizes[point * len(sizes) // points : (point + 1) * len(sizes) // points]
        means.append(sum(some) / len(some))
    least, most = min(means), max(means)
    if least == most:
        return [128] * points  # a constant rate tells nothing
    return [round(255 * (mean - least) / (most - least)) for mean in means]
