from __future__ import annotations

import os
from pathlib import Path

from hermesd.adapters.local.lines import LONGEST, TooLong, lines


async def test_lines_come_from_files_and_from_dev_null(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"first\r\nsecond \xff\nlast")
    for name, expected in ((str(path), ["first", "second \ufffd", "last"]), (os.devnull, [])):
        fd = os.open(name, os.O_RDONLY)
        assert [line async for line in lines(fd)] == expected
        os.close(fd)


async def test_a_line_that_is_too_long_is_counted_not_kept_and_the_next_ones_come(tmp_path: Path) -> None:
    path = tmp_path / "input"
    longest = b"y" * LONGEST
    path.write_bytes(b"first\n" + b"x" * (3 * LONGEST) + b"\nsecond\n" + longest + b"\n" + b"z" * (LONGEST + 1))
    fd = os.open(path, os.O_RDONLY)
    found = [line async for line in lines(fd)]
    os.close(fd)
    assert found == ["first", TooLong(3 * LONGEST), "second", longest.decode(), TooLong(LONGEST + 1)]
