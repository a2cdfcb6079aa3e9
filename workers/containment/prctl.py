"""The two process attributes of Linux that containment needs and the standard library does not offer."""

from __future__ import annotations

import ctypes
import functools
import os

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(option: int, value: int = 0) -> int:
    # The variadic arguments are unsigned long in the kernel; a bare Python int would go as a 32-bit C int.
    zero = ctypes.c_ulong(0)
    result: int = _libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")
    return result


def set_child_subreaper(on: bool = True) -> None:
    """Make the caller the parent of every orphan below it. Survives exec, is not inherited over fork."""
    _call(_PR_SET_CHILD_SUBREAPER, int(on))


def is_child_subreaper() -> bool:
    answer = ctypes.c_int(0)
    zero = ctypes.c_ulong(0)
    if _libc().prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), zero, zero, zero) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_GET_CHILD_SUBREAPER): {os.strerror(number)}")
    return bool(answer.value)


def set_dumpable(on: bool) -> None:
    """Off: no core dump, and other processes of the same user can read neither memory nor ``/proc/PID/environ``."""
    _call(_PR_SET_DUMPABLE, int(on))


def is_dumpable() -> bool:
    return _call(_PR_GET_DUMPABLE) == 1
