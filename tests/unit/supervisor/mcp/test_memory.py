from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hermesd.ipc.mcp import ToolInfo
from hermesd.supervisor.mcp import memory
from hermesd.supervisor.mcp.budget import Budget, State
from hermesd.supervisor.mcp.memory import Kept, Memory
from hermesd.supervisor.tasks import Tasks

KEPT = Kept("a", "c1", Budget(State.PARKED, spawns=5, failures=5, reason="exit 1", next_try=9.0), None)
LISTED = Kept("b", "c2", Budget(State.GOOD), (ToolInfo("t", "d", {"type": "object"}),))


def tasks() -> Tasks:
    return Tasks(lambda name, error: None)


def test_what_was_written_is_read_again_and_a_try_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    memory.write(path, [KEPT, LISTED, Kept("t", "c3", Budget(State.TRYING, failures=2), None)])
    assert path.stat().st_mode & 0o777 == 0o600
    read = Memory(path, tasks())
    assert (read.take("a", "c1"), read.take("b", "c2")) == (KEPT, LISTED)
    tried = read.take("t", "c3")
    assert tried is not None
    assert (tried.budget.state, tried.budget.failures) == (State.UNTRIED, 2)
    assert read.take("a", "other") is None
    assert read.take("a", "c1") is None, "once"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "servers": [{"name": "a"}]}'])
def test_a_broken_file_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "mcp.json").write_text(text)
    assert memory.read(tmp_path / "mcp.json") == []


async def test_changes_are_written_together_and_the_last_ones_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "WRITE_AFTER", 0.0)
    path, owner = tmp_path / "mcp.json", tasks()
    kept = Memory(path, owner)
    kept.keep([KEPT])
    await asyncio.sleep(0.01)
    await owner.settle(5.0)
    assert memory.read(path) == [KEPT]
    kept.keep([KEPT, LISTED])
    kept.flush()
    assert memory.read(path) == [KEPT, LISTED]


async def test_a_directory_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Memory(tmp_path / "missing" / "mcp.json", tasks())
    kept.keep([KEPT])
    kept.flush()
    assert "cannot keep what is known of MCP servers" in caplog.text
