"""A person at ``hermesctl chat``, who sees each event as it comes."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from .daemon import Daemon


class Chat:
    """``hermesctl --json chat`` as a conversation: what is said, and every event as it comes."""

    def __init__(self, daemon: Daemon, name: str = ""):
        self.process = subprocess.Popen(
            daemon.command("hermesctl", "--json", "chat", name), env=daemon.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.wait("open")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def wait(self, kind: str, pattern: str = "") -> str:
        """The text of the next event of this kind that holds this."""
        return str(self.seen(kind, pattern)[-1]["text"])

    def seen(self, kind: str, pattern: str = "") -> list[dict[str, Any]]:
        """All events up to the next one of this kind that holds this."""
        assert self.process.stdout is not None
        seen: list[dict[str, Any]] = []
        while line := self.process.stdout.readline():
            event = json.loads(line)
            seen.append(event)
            if event["kind"] == kind and re.search(pattern, event["text"]):
                return seen
        raise AssertionError(f"the chat ended without {kind} {pattern!r}: {seen}")

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)
