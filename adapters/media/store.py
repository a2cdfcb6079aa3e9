"""Keeps files of messages in the media directory, under names that no sender can choose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Rejected, Retry

from . import kinds

NAME_LIMIT = 80  # characters of the sender's own name that are kept
_UNSAFE = re.compile(r"[^\w.()\[\] +-]")


def safe_name(name: str) -> str:
    """The sender's name for a file, without directories, control characters or a leading dot; "file" for none."""
    base = PureWindowsPath(PurePosixPath(name.replace("\0", "")).name).name
    base = _UNSAFE.sub("_", base).strip(" .")
    stem, dot, suffix = base.rpartition(".")
    if dot and len(suffix) <= 10:
        base = f"{stem[: NAME_LIMIT - len(suffix) - 1]}.{suffix}"
    return base[:NAME_LIMIT] or "file"


async def store(chunks: AsyncIterator[bytes], file: Attachment, directory: Path, limit: int) -> Attachment:
    """Write a file (0600) and return its attachment with path, size and, for images, the MIME type of its content.

    Nothing stays on disk when it raises: `Rejected` for more than ``limit`` bytes or for a picture that is none,
    `Retry` when the disk refuses. What ``chunks`` raises goes through.
    """
    name = safe_name(file.name)
    temporary = directory / f".{secrets.token_hex(6)}.part"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        size, head = await _write(chunks, temporary, limit)
        mime = _checked_type(file, head)
        path = directory / f"{file.kind}_{secrets.token_hex(6)}_{name}"
        os.replace(temporary, path)
    except OSError as error:
        raise Retry(f"cannot keep the file {name}: {error.strerror}", after=5.0) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return replace(file, path=str(path), name=name, mime=mime, size=size)


async def _write(chunks: AsyncIterator[bytes], path: Path, limit: int) -> tuple[int, bytes]:
    size, head = 0, b""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise Rejected(f"the file is larger than {limit} bytes")
            if len(head) < 12:
                head += chunk[: 12 - len(head)]
            await asyncio.to_thread(out.write, chunk)
    return size, head


def _checked_type(file: Attachment, head: bytes) -> str:
    # An animation may be a film; one that is said to be a picture has to be one.
    if file.kind != kinds.IMAGE and not (file.kind == kinds.ANIMATION and file.mime == "image/gif"):
        return file.mime
    found = kinds.image_type(head)
    if not found:
        raise Rejected(f"{safe_name(file.name)} is not an image, whatever its name says")
    return found


def sweep(directory: Path, older_than: float) -> int:
    """Remove every file that was last written before ``older_than`` (Unix seconds). Returns how many. Blocking."""
    removed = 0
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return 0
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < older_than:
                os.unlink(entry.path)
                removed += 1
        except FileNotFoundError:
            continue  # somebody else was faster
    return removed
