"""Files of messages on disk."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Rejected, Retry
from hermesd.adapters.media import kinds
from hermesd.adapters.media.store import safe_name, store, sweep


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\0b.txt", "ab.txt"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a\nb\x1b[31m.txt", "a_b_[31m.txt"),
        ("ü" * 200 + ".pdf", "ü" * 76 + ".pdf"),
    ],
)
def test_names(given: str, safe: str) -> None:
    assert safe_name(given) == safe


async def test_a_file_stays_in_its_directory(tmp_path: Path) -> None:
    stored = await store(chunks(b"ab", b"c"), Attachment("", "../x.txt"), tmp_path / "media", 10)
    assert Path(stored.path).parent == tmp_path / "media"
    assert Path(stored.path).read_bytes() == b"abc"
    assert (stored.size, stored.name) == (3, "x.txt")


async def test_one_byte_too_many(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        await store(chunks(b"ab", b"c"), Attachment("", "x.txt"), tmp_path, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "mime", "data", "found"),
    [
        ("image", "image/png", b"\x89PNG\r\n\x1a\n....", "image/png"),
        ("image", "image/png", b"\xff\xd8\xff.........", "image/jpeg"),
        ("image", "image/png", b"<!DOCTYPE html>", ""),
        ("animation", "image/gif", b"GIF89a......", "image/gif"),
        ("animation", "image/gif", b"<html>......", ""),
        ("animation", "video/mp4", b"....ftypisom", "video/mp4"),
        ("document", "text/html", b"<!DOCTYPE html>", "text/html"),
    ],
)
async def test_what_is_said_to_be_a_picture_is_one(
    kind: str, mime: str, data: bytes, found: str, tmp_path: Path
) -> None:
    file = Attachment("", "x.bin", mime, kind)
    if found:
        assert (await store(chunks(data[:5], data[5:]), file, tmp_path, 100)).mime == found
    else:
        with pytest.raises(Rejected, match="is not an image, whatever its name says"):
            await store(chunks(data), file, tmp_path, 100)
        assert list(tmp_path.iterdir()) == []


async def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("in the way")
    with pytest.raises(Retry, match="cannot keep"):
        await store(chunks(b"ab"), Attachment("", "x.txt"), tmp_path / "media", 10)


def test_the_sweep_takes_what_is_old_and_nothing_else(tmp_path: Path) -> None:
    for name, age in (("old", 100), ("new", 900)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (age, age))
    (tmp_path / "directory").mkdir()
    os.utime(tmp_path / "directory", (1, 1))
    assert sweep(tmp_path, 500) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "new"]
    assert sweep(tmp_path / "none", 500) == 0


@pytest.mark.parametrize(
    ("name", "mime", "kind"),
    [("a.PNG", "", "image"), ("a.gif", "", "animation"), ("a.ogg", "", "voice"), ("a.mp3", "", "audio"),
     ("a.mp4", "", "video"), ("a.pdf", "", "document"), ("a", "image/jpeg", "image"), ("a", "audio/x", "audio"),
     ("a", "", "document")],
)  # fmt: skip
def test_kinds(name: str, mime: str, kind: str) -> None:
    assert kinds.kind_of(name, mime) == kind
