"""Whether a file lock is held, found out without taking it.

Trying it would be simpler, and could make a hermesd fail that starts in the same microsecond: it would find its home
held by another. Linux lists every lock in /proc/locks, a line each:

    3: FLOCK  ADVISORY  WRITE 4711 fe:01:1048602 0 EOF
    3: -> FLOCK  ADVISORY  WRITE 4712 fe:01:1048602 0 EOF      (somebody who waits for it)
"""

from __future__ import annotations

import os

LOCKS = "/proc/locks"


def is_held(path: str) -> bool:
    """Whether some process holds an exclusive flock(2) on this file. Raises OSError where that cannot be seen."""
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return False
    with open(LOCKS, encoding="ascii", errors="replace") as file:
        return holds(file.read(), inode)


def holds(locks: str, inode: int) -> bool:
    """Whether the text of /proc/locks has an exclusive flock on this inode.

    By the inode's number alone: on btrfs and overlayfs the device in this list is not the one that stat(2) tells, and
    taking a living hermesd for dead is worse than the opposite.
    """
    for line in locks.splitlines():
        words = line.split()
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5].rpartition(":")[2] == str(inode):
            return True
    return False
