"""A file with a cap: rotated, followed when it is moved away, and never an error for who writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hermesd.supervisor.logs.capped import CappedFile, cut_back


def sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(directory.iterdir())}


def test_lines_stay_whole_and_every_file_within_the_cap(tmp_path: Path) -> None:
    file = CappedFile(tmp_path / "a.log", 1000, 2)
    for number in range(200):
        assert file.write(b"%029d\n" % number)
    file.close()
    assert sizes(tmp_path) == {"a.log": 80 * 0 + 200 * 30 % 990, "a.log.1": 990, "a.log.2": 990}
    kept = b"".join((tmp_path / name).read_bytes() for name in ("a.log.2", "a.log.1", "a.log")).split()
    assert [int(line) for line in kept] == list(range(200 - len(kept), 200))
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


def test_a_later_life_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for _ in range(2):
        file = CappedFile(tmp_path / "a.log", 1000, 1)
        file.write(b"line\n")
        file.close()
    assert (tmp_path / "a.log").read_bytes() == b"line\nline\n"


def test_without_older_files_it_begins_anew(tmp_path: Path) -> None:
    file = CappedFile(tmp_path / "a.log", 100, 0)
    for number in range(20):
        file.write(b"%09d\n" % number)
    file.close()
    assert sizes(tmp_path) == {"a.log": 100}


def test_a_line_longer_than_the_cap_keeps_its_end(tmp_path: Path) -> None:
    file = CappedFile(tmp_path / "a.log", 100, 1)
    file.write(b"x" * 500 + b"end\n")
    file.close()
    assert (tmp_path / "a.log").read_bytes() == b"x" * 96 + b"end\n"


def test_older_files_than_are_kept_now_are_removed(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        (tmp_path / f"a.log.{number}").write_bytes(b"old")
    file = CappedFile(tmp_path / "a.log", 100, 2)
    for _ in range(2):
        file.write(b"x" * 99 + b"\n")
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]


def test_it_goes_on_under_its_name_when_somebody_moved_the_file(tmp_path: Path) -> None:
    file = CappedFile(tmp_path / "a.log", 1000, 1)
    file.write(b"one\n")
    os.rename(tmp_path / "a.log", tmp_path / "moved")
    file.follow()
    file.write(b"two\n")
    (tmp_path / "a.log").unlink()
    file.follow()
    file.write(b"three\n")
    file.close()
    assert (tmp_path / "moved").read_bytes() == b"one\n"
    assert (tmp_path / "a.log").read_bytes() == b"three\n"


def test_what_cannot_be_written_is_counted_with_the_reason(tmp_path: Path) -> None:
    directory = tmp_path / "not yet"
    file = CappedFile(directory / "a.log", 1000, 1)
    assert not file.write(b"one\n")
    assert not file.write(b"two\n")
    assert file.lost == 2
    assert file.error == f"cannot write {directory}/a.log: No such file or directory"
    directory.mkdir()
    assert file.write(b"three\n")
    file.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which takes nothing")
def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to("/dev/full")
    file = CappedFile(tmp_path / "a.log", 1000, 1)
    assert not file.write(b"one\n")
    assert "symbolic links" in file.error


def test_a_file_that_others_write_into_is_cut_back_under_their_hands(tmp_path: Path) -> None:
    path = tmp_path / "keeper.log"
    with path.open("ab", buffering=0) as other:
        other.write(b"old\n" * 10)
        assert not cut_back(path, 100)
        other.write(b"newer\n" * 100)
        assert cut_back(path, 100)
        other.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "keeper.log.1").read_bytes() == (b"newer\n" * 100)[-100:]
    assert not cut_back(tmp_path / "none.log", 100)
