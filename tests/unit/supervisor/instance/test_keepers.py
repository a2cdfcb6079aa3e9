from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hermesd.supervisor.instance.errors import HomeUnusable
from hermesd.supervisor.instance.keepers import KeeperRecord, Keepers, read, write
from hermesd.supervisor.instance.process import start_ticks

ONE = KeeperRecord(10, 100, "/run/keeper-1.sock", "s1")
OTHER = KeeperRecord(11, 110, "/run/keeper-2.sock", "s2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keepers.json"


def test_what_is_added_is_read_again_until_it_is_dropped(path: Path) -> None:
    keepers = Keepers(path)
    keepers.add(ONE)
    keepers.add(OTHER)
    assert read(path) == [ONE, OTHER]
    keepers.drop(ONE)
    assert read(path) == [OTHER]
    assert json.loads(path.read_text())["schema"] == 1


def test_those_of_an_earlier_life_stay_on_the_list(path: Path) -> None:
    keepers = Keepers(path, [ONE])
    keepers.add(OTHER)
    assert read(path) == [ONE, OTHER]


def test_an_empty_list_is_no_file_and_nothing_else_is_left(path: Path) -> None:
    keepers = Keepers(path)
    keepers.add(ONE)
    keepers.drop(ONE)
    keepers.drop(ONE)
    assert list(path.parent.iterdir()) == []


def test_nobody_else_may_read_it(path: Path) -> None:
    write(path, [ONE])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "not json", '{"schema": 2, "keepers": []}', '{"schema": 1, "keepers": 5}', '{"schema": 1}',
        '{"schema": 1, "keepers": [5, {"pid": "10"}, {"pid": 0, "start_ticks": 1, "socket": "", "secret": ""}]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_list_is_an_empty_one(path: Path, text: str) -> None:
    path.write_text(text)
    assert read(path) == []


def test_a_missing_file_a_link_and_a_fifo_are_empty_lists(path: Path) -> None:
    assert read(path) == []
    write(path.with_name("real"), [ONE])
    path.symlink_to(path.with_name("real"))
    assert read(path) == []
    path.unlink()
    os.mkfifo(path)
    assert read(path) == []


def test_a_record_means_one_process_and_no_later_one_of_its_pid() -> None:
    pid = os.getpid()
    assert KeeperRecord(pid, start_ticks(pid), "", "").is_alive()
    assert not KeeperRecord(pid, start_ticks(pid) + 1, "", "").is_alive()
    assert not KeeperRecord(pid, 0, "", "").is_alive(), "without its start time nobody knows which process was meant"


def test_the_secret_is_not_printed() -> None:
    assert "s1" not in repr(ONE)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="cannot write the list of keepers"):
        Keepers(tmp_path / "missing" / "keepers.json").add(ONE)
