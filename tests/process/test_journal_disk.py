"""A disk that takes no more: writes fail with the reason, nothing is half there, and they go on when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hermesd.supervisor.journal import Journal, JournalUnavailable, meta
from hermesd.supervisor.journal.database import check, open_for_writing
from hermesd.supervisor.journal.writer import PROBE

VALUE = "x" * 2000


async def fill_and_recover(path: Path, make_room: Callable[[], object]) -> str:
    """Write until it fails, make room, write again. Returns the reason of the failure."""
    journal = Journal(path)
    await journal.open()
    acknowledged: set[str] = set()
    refused: set[str] = set()
    number = 0
    refused_last = False
    while not refused_last:  # else a smaller group after that may have found room, and all would be well again
        keys = [str(number + offset) for offset in range(20)]
        number += len(keys)
        assert number <= 5000, "10 MB are written and the disk still takes them"
        results = await asyncio.gather(*(journal.write(meta.put, key, VALUE) for key in keys), return_exceptions=True)
        for key, result in zip(keys, results, strict=True):
            assert result is None or isinstance(result, JournalUnavailable), result
            (acknowledged if result is None else refused).add(key)
        refused_last = results[-1] is not None
    failing = journal.state
    assert failing.word == "failing"
    for key in acknowledged:
        assert await journal.read(meta.get, key) == VALUE
    for key in refused:
        assert await journal.read(meta.get, key) is None

    make_room()
    await journal.write(meta.put, "after", VALUE)
    assert journal.state.word == "ok"
    await journal.close()

    with closing(open_for_writing(path)) as connection:
        assert check(connection, full=True) == []
        kept = {row["key"] for row in connection.execute("SELECT key FROM meta")} - {PROBE}
    assert kept == acknowledged | {"after"}
    assert len(acknowledged) > 20
    return failing.reason


def test_a_file_that_may_not_grow_fails_writes_and_nothing_else(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel itself refuse the write, also for root."""
    pytest.importorskip("resource", reason="RLIMIT_FSIZE is POSIX's")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "state.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SQLITE_IOERR_WRITE" in done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a tmpfs of 2 MB")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "hermesd-test", str(disk)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=10)


@pytest.mark.root
async def test_a_full_disk_fails_writes_and_nothing_else(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_000_000)
    assert "SQLITE_FULL" in await fill_and_recover(small_disk / "state.db", ballast.unlink)


if __name__ == "__main__":
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    make_room = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # noqa: E731
    print(asyncio.run(fill_and_recover(Path(sys.argv[1]), make_room)))
