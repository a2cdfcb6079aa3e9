from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from hermesd.workers.keeper.lock_probe import LOCKS, holds, is_held

TEXT = """\
1: POSIX  ADVISORY  WRITE 812 fe:01:77 0 EOF
2: FLOCK  ADVISORY  READ  813 fe:01:78 0 EOF
3: FLOCK  ADVISORY  WRITE 814 fe:01:79 0 EOF
3: -> FLOCK  ADVISORY  WRITE 815 fe:01:80 0 EOF
4: FLOCK  ADVISORY  WRITE 816 00:2a:1079 0 EOF
"""


@pytest.mark.parametrize(
    ("inode", "held"),
    [(79, True), (1079, True), (77, False), (78, False), (80, False), (9, False), (107, False)],
    ids=["held", "on another device", "record lock", "a reader looks", "somebody waits", "ending", "beginning"],
)
def test_an_exclusive_flock_of_exactly_this_inode(inode: int, held: bool) -> None:
    assert holds(TEXT, inode) is held


@pytest.mark.skipif(not os.path.exists(LOCKS), reason="this system has no /proc/locks")
def test_the_kernels_list_of_this_moment(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(str(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    assert not is_held(str(path))
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert is_held(str(path))
    os.close(descriptor)
    assert not is_held(str(path))
