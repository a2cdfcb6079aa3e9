"""HERMESD_TAG, the mark in the environment by which a process is proved ours.

``<instance>-<32 hex digits>``: 12 hex digits name the home, the rest is random. A server's tag shares its worker's
first 16 random digits, so a worker's whole tree is found by a prefix and each server's by the full value.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import secrets
from typing import NamedTuple

from .errors import TagError
from .identity import stat_fields

VARIABLE = "HERMESD_TAG"
INSTANCE_DIGITS = 12
_RANDOM_DIGITS = 32
_WORKER_DIGITS = 16
LENGTH = INSTANCE_DIGITS + 1 + _RANDOM_DIGITS
_SHAPE = re.compile(rf"([0-9a-f]{{{INSTANCE_DIGITS}}})-([0-9a-f]{{{_RANDOM_DIGITS}}})")
_ASSIGNMENT = VARIABLE.encode() + b"="
_ENVIRON_LIMIT = 4 << 20


class Tag(NamedTuple):
    """The two parts of a tag."""

    instance: str
    random: str


def check_instance(instance: str) -> str:
    """The instance id itself; raises `TagError` unless it is 12 lower-case hex digits."""
    if not re.fullmatch(rf"[0-9a-f]{{{INSTANCE_DIGITS}}}", instance):
        raise TagError(f"cannot use instance id {instance!r}: it must be {INSTANCE_DIGITS} lower-case hex digits")
    return instance


def make_tag(instance: str) -> str:
    """A new tag for a keeper or a worker."""
    return f"{check_instance(instance)}-{secrets.token_hex(_RANDOM_DIGITS // 2)}"


def parse_tag(text: str) -> Tag:
    """Raises `TagError` if ``text`` is no tag."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise TagError(f"cannot read tag {text!r}: expected <{INSTANCE_DIGITS} hex>-<{_RANDOM_DIGITS} hex>")
    return Tag(match[1], match[2])


def server_tag(worker_tag: str, server: str, generation: int) -> str:
    """The tag of an MCP server: the same from every process that knows its worker's tag."""
    parse_tag(worker_tag)
    digest = hashlib.sha256(f"{worker_tag}/{server}/{generation}".encode()).hexdigest()
    return worker_prefix(worker_tag) + digest[: _RANDOM_DIGITS - _WORKER_DIGITS]


def worker_prefix(tag: str) -> str:
    """What the tags of a worker and of all its servers begin with."""
    return tag[: INSTANCE_DIGITS + 1 + _WORKER_DIGITS]


def read_tag(pid: int | str) -> str:
    """The tag in the initial environment of ``pid``; "" if it has none, is a zombie or gone, or is not ours to read."""
    try:
        descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        block = os.read(descriptor, 4096)
        # The kernel hands out at most a page at a time.
        while (more := os.read(descriptor, 65536)) and len(block) < _ENVIRON_LIMIT:
            block += more
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return find_tag(block)


def find_tag(environ: bytes) -> str:
    """The well-formed tag in an environment block of NUL-ended assignments, or ""."""
    start = 0 if environ.startswith(_ASSIGNMENT) else environ.find(b"\0" + _ASSIGNMENT) + 1
    if start == 0 and not environ.startswith(_ASSIGNMENT):
        return ""
    start += len(_ASSIGNMENT)
    value = environ[start : start + LENGTH + 1].partition(b"\0")[0].decode("ascii", "replace")
    return value if _SHAPE.fullmatch(value) else ""


def plant(tag: str) -> None:
    """Give the calling process ``tag``, for its own /proc/PID/environ and for everything it starts.

    A forked process shows its parent's environment block in /proc/PID/environ whatever it does to ``os.environ``, so
    the value is overwritten where the kernel put it at exec (env_start and env_end, fields 50 and 51 of
    /proc/self/stat); forks of the caller inherit that. The caller must have been exec'd with some tag in its
    environment: all tags have one length. Raises `TagError`.
    """
    parse_tag(tag)
    fields = stat_fields("self")
    if fields is None:
        raise TagError("cannot plant a tag: /proc is not mounted")
    start, end = int(fields[47]), int(fields[48])
    # From memory, not from /proc/self/environ: an undumpable process may not open that file.
    block = ctypes.string_at(start, end - start) if start else b""
    present = find_tag(block)
    if not present:
        raise TagError(f"cannot plant a tag: this process was started without a {VARIABLE} of {LENGTH} characters")
    offset = (b"\0" + block).index(b"\0" + _ASSIGNMENT) + len(_ASSIGNMENT)
    ctypes.memmove(start + offset, tag.encode(), LENGTH)
    os.environ[VARIABLE] = tag
