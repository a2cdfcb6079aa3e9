"""A whole-file lock that ends with its descriptor: one locked byte, far behind the text so that others can read it."""

from __future__ import annotations

import sys

_BYTE = 1 << 20

if sys.platform == "win32":
    import msvcrt
    import os

    def try_exclusive(descriptor: int) -> bool:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    # Windows has no shared lock here; who only looks holds it for microseconds, and who wants it tries again.
    try_shared = try_exclusive
