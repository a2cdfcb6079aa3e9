"""A whole-file lock that ends with its descriptor: flock(2).

Not fcntl(2) record locks: those end when the process closes *any* descriptor of the file.
"""

from __future__ import annotations

import fcntl


def try_exclusive(descriptor: int) -> bool:
    return _try(descriptor, fcntl.LOCK_EX)


def try_shared(descriptor: int) -> bool:
    return _try(descriptor, fcntl.LOCK_SH)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
