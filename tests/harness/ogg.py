"""Recordings as files, made by hand: what is in their packets is no sound, but their sizes and times are right."""

from __future__ import annotations

import struct

PRE_SKIP = 312
FRAME = 960
"""Samples of one packet, at 48 kHz: 20 ms."""


def page(granule: int, number: int, packets: list[bytes], *, goes_on: bool = False) -> bytes:
    """One Ogg page (RFC 3533). ``goes_on``: the last packet ends in the next page, and is a multiple of 255 long."""
    lacing = bytearray()
    for place, packet in enumerate(packets):
        lacing += b"\xff" * (len(packet) // 255)
        if not (goes_on and place == len(packets) - 1):
            lacing.append(len(packet) % 255)
    head = struct.pack("<4sBBqIII", b"OggS", 0, 0, granule, 7, number, 0)
    return head + bytes([len(lacing)]) + bytes(lacing) + b"".join(packets)


def ogg_opus(sizes: list[int]) -> bytes:
    """An Ogg Opus file (RFC 7845) of packets of these sizes, 20 ms each."""
    pages = [
        page(0, 0, [b"OpusHead" + struct.pack("<BBHIhB", 1, 1, PRE_SKIP, 48_000, 0, 0)]),
        page(0, 1, [b"OpusTags" + bytes(8)]),
    ]
    for at in range(0, len(sizes), 10):
        packets = [bytes(size) for size in sizes[at : at + 10]]
        pages.append(page(PRE_SKIP + FRAME * min(at + 10, len(sizes)), len(pages), packets))
    return b"".join(pages)
