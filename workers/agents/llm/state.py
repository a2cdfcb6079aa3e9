"""What this agent keeps on disk besides the conversation: it must not be forgotten when its worker hibernates.

Small files, replaced by rename. They lie in the session's work directory, except what the user has approved for ever,
which outlives ``/new`` and so lies beside it, under the chat's own key. An agent's tools may write where its user may;
that holds for these files as it does for config.yaml.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hermesd.workers.agents.contract import Session

log = logging.getLogger("hermesd.llm")

T = TypeVar("T")

FOLDER = ".llm"


@dataclass(slots=True)
class Kept:
    """Of one conversation. ``approved``: tools that need no more asking until ``/new``; ``usage`` in tokens, of all."""

    summary: str = ""
    tail: list[tuple[str, str]] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)


class State:
    """Reads at once, writes when it is told to. A file that cannot be read counts as none, and is said."""

    def __init__(self, session: Session) -> None:
        folder = session.workdir / FOLDER
        self.steps = folder / "steps.jsonl"
        self._file = folder / "state.json"
        chat = hashlib.sha256(session.key.encode("utf-8", "replace")).hexdigest()[:24]
        self._always_file = session.workdir.parent / ".llm-approved" / f"{chat}.json"
        self.kept = _read(self._file, _kept, Kept())
        self._always: set[str] = _read(
            self._always_file, lambda found: {str(name) for name in found["approved"]}, set()
        )

    @property
    def approved(self) -> frozenset[str]:
        """Tools, as ``server.tool``, that the user need not be asked about."""
        return frozenset(self.kept.approved) | self._always

    def approve(self, tool: str, *, always: bool) -> None:
        if always:
            self._always.add(tool)
            _write(self._always_file, {"approved": sorted(self._always)})
        else:
            self.kept.approved.append(tool)
            self.save()

    def count(self, usage: dict[str, int]) -> None:
        """Add what a turn has used."""
        for name, count in usage.items():
            self.kept.usage[name] = self.kept.usage.get(name, 0) + count
        self.save()

    def save(self) -> None:
        _write(self._file, asdict(self.kept))


def _kept(found: Any) -> Kept:
    return Kept(
        summary=str(found["summary"]),
        tail=[(str(role), str(text)) for role, text in found["tail"]],
        approved=[str(name) for name in found["approved"]],
        usage={str(name): int(count) for name, count in found["usage"].items()},
    )


def _read(path: Path, understood: Callable[[Any], T], otherwise: T) -> T:
    try:
        return understood(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.warning("cannot read %s, going on without it: %r", path, error)
    return otherwise


def _write(path: Path, value: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(value, stream, ensure_ascii=False)
        fresh.replace(path)
    except OSError as error:
        # A full disk costs what would be remembered, not the answer.
        log.warning("cannot write %s: %s", path, error)
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
