from __future__ import annotations

import os
from pathlib import Path

import pytest

from hermesd.adapters.local.lines import LONGEST, LineTooLong, lines


async def test_lines_come_from_files_and_from_dev_null(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"first\r\nsecond \xff\nlast")
    for name, expected in ((str(path), ["first", "second \ufffd", "last"]), (os.devnull, [])):
        fd = os.open(name, os.O_RDONLY)
        assert [line async for line in lines(fd)] == expected
        os.close(fd)


async def test_a_line_without_end_is_not_read_into_memory_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"x" * (3 * LONGEST))
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(LineTooLong, match="longer than"):
        _ = [line async for line in lines(fd)]
    os.close(fd)
