"""What an agent keeps over the end of its process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hermesd.ipc.messages import Entry
from hermesd.workers import snapshots
from hermesd.workers.agents.contract import Session

HISTORY = [Entry("user", "one", 1.0), Entry("assistant", "re one", 2.0)]


class Keeper:
    """An agent that keeps what it was given."""

    def __init__(self, kept: Any = b"") -> None:
        self.kept = kept

    async def turn(self, turn: Any, out: Any) -> str:
        return ""

    def snapshot(self) -> Any:
        if isinstance(self.kept, Exception):
            raise self.kept
        return self.kept

    async def restore(self, kept: bytes) -> None:
        if kept == b"bad":
            raise ValueError(kept)
        self.kept = kept


def session(workdir: Path, history: list[Entry]) -> Session:
    return Session("k", "s", "fake", "c", "u", "", history, None, {}, workdir)  # type: ignore[arg-type]


async def restored(workdir: Path, history: list[Entry]) -> Any:
    agent = Keeper("nothing")
    await snapshots.give_back(agent, session(workdir, history))
    return agent.kept


async def test_the_next_process_of_the_same_conversation_gets_it(tmp_path: Path) -> None:
    await snapshots.keep(Keeper(b"state"), session(tmp_path, HISTORY))
    assert (tmp_path / snapshots.FILE).stat().st_mode & 0o777 == 0o600
    as_the_journal_has_it = [Entry(entry.role, entry.text, entry.at + 5.0) for entry in HISTORY]
    assert await restored(tmp_path, as_the_journal_has_it) == b"state"


async def test_a_conversation_that_went_on_without_it_does_not(tmp_path: Path) -> None:
    await snapshots.keep(Keeper(b"state"), session(tmp_path, HISTORY))
    assert await restored(tmp_path, [*HISTORY, Entry("user", "two"), Entry("assistant", "re two")]) == "nothing"
    assert await restored(tmp_path, HISTORY[:1]) == "nothing"
    assert await restored(tmp_path / "other", HISTORY) == "nothing"


@pytest.mark.parametrize("kept", [b"", "no bytes", RuntimeError("broken")])
async def test_what_is_no_snapshot_ends_nothing(tmp_path: Path, kept: Any) -> None:
    await snapshots.keep(Keeper(kept), session(tmp_path, HISTORY))
    assert await restored(tmp_path, HISTORY) == "nothing"


async def test_one_that_cannot_be_restored_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await snapshots.keep(Keeper(b"bad"), session(tmp_path, HISTORY))
    assert await restored(tmp_path, HISTORY) == "nothing"
    assert "restore failed" in caplog.text
