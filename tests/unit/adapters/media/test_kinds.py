"""What a file is by its first bytes."""

from __future__ import annotations

import struct

import pytest

from hermesd.adapters.media import kinds


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + bytes(8)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(22)


def webp(chunk: bytes, rest: bytes) -> bytes:
    return b"RIFF\x00\x01\x00\x00WEBP" + chunk + b"\x00\x01\x00\x00" + rest


def lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height))  # scaled by 5/4


def lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28) + bytes(7))


def extended(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\x10\x00\x00\x00" + sizes)


@pytest.mark.parametrize("made", [png, gif, lossy, lossless, extended])
def test_a_picture_of_a_sticker_s_size_may_be_one(made: object) -> None:
    assert callable(made)
    assert kinds.image_size(made(512, 300)[: kinds.HEAD]) == (512, 300)
    assert kinds.may_be_sticker("a.webp", made(512, 300))
    assert not kinds.may_be_sticker("a.webp", made(300, 513))


@pytest.mark.parametrize("head", [b"", b"\xff\xd8\xff" + bytes(40), lossy(512, 512)[:20], b"<html>" + bytes(40)])
def test_what_does_not_tell_its_size_is_none(head: bytes) -> None:
    assert kinds.image_size(head) == (0, 0)
    assert not kinds.may_be_sticker("a.webp", head)


def test_animations_are_known_by_name_and_content() -> None:
    assert kinds.is_animated_sticker("Wave.TGS", b"\x1f\x8b\x08")
    assert kinds.may_be_sticker("a.tgs", b"\x1f\x8b\x08")
    assert kinds.may_be_sticker("a.webm", b"\x1a\x45\xdf\xa3")
    for name, head in (("a.tgs", b"{}"), ("a.gz", b"\x1f\x8b\x08"), ("a.mkv", b"\x1a\x45\xdf\xa3"), ("a.webm", b"x")):
        assert not kinds.is_animated_sticker(name, head)
        assert not kinds.may_be_sticker(name, head)
