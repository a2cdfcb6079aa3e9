from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hermesd.supervisor.pool import evidence

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


def made(directory: Path, name: str, age: float) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("x")
    os.utime(path, (NOW - age, NOW - age))
    return path


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_name_says_which_worker_and_when() -> None:
    assert evidence.name_of("w3-1f0c", 1_795_385_730.0) == "w3-1f0c-20261122T221530Z.txt"


def test_a_file_is_for_its_owner_only_and_follows_no_link(tmp_path: Path) -> None:
    path = tmp_path / "hangs" / "w1.txt"
    evidence.write(path, ["one", "two"])
    assert path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "hangs" / "w2.txt").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        evidence.write(tmp_path / "hangs" / "w2.txt", ["x"])
    assert target.read_text() == "mine"


def test_the_stacks_are_put_behind_it(tmp_path: Path) -> None:
    path, stacks = tmp_path / "w1.txt", tmp_path / "stacks.txt"
    path.write_text("facts\n")
    stacks.write_text("Thread 1\n  File x\n")
    evidence.add_stacks(path, stacks, "ended, exit code -9")
    assert path.read_text() == (
        f"facts\n\nended, exit code -9\n\nPython stacks\n  of {stacks}\n  Thread 1\n    File x\n"
    )


@pytest.mark.parametrize("empty", [True, False])
def test_without_a_dump_it_says_so(tmp_path: Path, empty: bool) -> None:
    path, stacks = tmp_path / "w1.txt", tmp_path / "stacks.txt"
    if empty:
        stacks.touch()
    evidence.add_stacks(path, stacks, "ended")
    assert "none: the process did not run again" in path.read_text()


def test_what_is_a_week_old_goes(tmp_path: Path) -> None:
    made(tmp_path, "old.txt", 7 * DAY + 1)
    made(tmp_path, "used.txt", 8 * DAY)
    made(tmp_path, "young.txt", 7 * DAY - 1)
    made(tmp_path, "other.log", 30 * DAY)
    assert evidence.prune(tmp_path, NOW, {"used.txt"}) == 1
    assert names(tmp_path) == {"used.txt", "young.txt", "other.log"}


def test_of_many_the_newest_fifty_stay_beside_those_in_use(tmp_path: Path) -> None:
    for number in range(60):
        made(tmp_path, f"w{number}.txt", age=float(number))
    made(tmp_path, "used.txt", 1000.0)
    assert evidence.prune(tmp_path, NOW, {"used.txt"}) == 10
    assert names(tmp_path) == {"used.txt", *(f"w{number}.txt" for number in range(50))}


def test_what_is_empty_goes_unless_it_is_in_use(tmp_path: Path) -> None:
    for name in ("left.txt", "used.txt"):
        made(tmp_path, name, 1.0).write_text("")
    assert evidence.prune(tmp_path, NOW, {"used.txt"}) == 1
    assert names(tmp_path) == {"used.txt"}


def test_where_nothing_hung_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert evidence.prune(tmp_path / "hangs", NOW) == 0
