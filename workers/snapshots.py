"""What an agent wants to find again after its process has ended: the bytes of its ``snapshot()``, in a file.

It lies in the session's work directory, with a mark of the conversation that it belongs to. A worker that ends politely
writes it; the next one hands it to ``restore()`` when the conversation is still that one. After a crash it usually is
not, and then the texts of the conversation are all there is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from hermesd.ipc.messages import Entry
from hermesd.workers.agents import factory
from hermesd.workers.agents.contract import Agent, Session

log = logging.getLogger("hermesd.worker")

FILE = ".hermesd-snapshot"

LARGEST = 64 << 20
"""Bytes; a larger one costs more to read than a conversation costs to read anew."""

_MARK = hashlib.sha256().digest_size


async def keep(agent: Agent, session: Session) -> None:
    """Ask the agent for it and write it down. What goes wrong costs what it would have kept, and is logged."""
    if not factory.has(agent, "snapshot"):
        return
    try:
        kept = await factory.optional(agent, "snapshot")
    except Exception:  # anybody's code; the texts of the conversation are on disk all the same
        log.exception("the agent's snapshot failed")
        return
    path = session.workdir / FILE
    if not isinstance(kept, bytes | bytearray) or not kept or len(kept) > LARGEST:
        if kept:
            log.warning("the agent's snapshot is not kept: it is no bytes, or more than %d MiB", LARGEST >> 20)
        path.unlink(missing_ok=True)
        return
    _write(path, mark_of(session.history) + kept)


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as stream:
            stream.write(content)
        fresh.replace(path)
    except OSError as error:
        log.warning("cannot keep the agent's snapshot: %s", error)
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


async def give_back(agent: Agent, session: Session) -> None:
    """Hand it to a new agent of the same conversation, before its first turn."""
    if not factory.has(agent, "restore"):
        return
    kept = _read(session.workdir / FILE)
    if not kept or kept[:_MARK] != mark_of(session.history):
        return
    try:
        await factory.optional(agent, "restore", kept[_MARK:])
    except Exception:  # anybody's code, and perhaps bytes of another version of it
        log.exception("the agent's restore failed: it goes on from the texts of the conversation")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= LARGEST + _MARK else b""
    except FileNotFoundError:
        return b""
    except OSError as error:
        log.warning("cannot read the agent's snapshot: %s", error)
        return b""


def mark_of(history: Iterable[Entry]) -> bytes:
    """Of the texts; their times are another clock's in the journal."""
    digest = hashlib.sha256()
    for entry in history:
        for text in (entry.role, entry.text):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.digest()
