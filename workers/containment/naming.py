"""Names of containers: they become directories, and the names of servers come from people."""

from __future__ import annotations

import hashlib
import re

_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,80}")


def safe(name: str) -> str:
    """``name`` if it can be a part of a directory's name, else its harmless characters and a digest of the whole."""
    if _SAFE.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:60] + "-" + digest


def instance_name(instance: str) -> str:
    return f"hermesd-{instance}"


def worker_name(worker: str) -> str:
    return f"w-{safe(worker)}"


def server_name(worker: str, server: str, generation: int) -> str:
    return f"{worker_name(worker)}/mcp-{safe(server)}-{generation}"
