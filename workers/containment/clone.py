"""``fork`` into a cgroup: the child begins its life inside (Linux 5.7).

Moving a process that runs waits for every CPU of the system to pass a quiet state: 6 to 29 ms, median 17, measured on
Linux 6.18 with two cores, against 2.5 ms for being born there. It is most of the time that a worker takes to start.

The C library's ``fork`` cannot do it, so the system call is made directly. What ``fork`` does besides is done here: the
interpreter's own hooks, and the thread id that the C library keeps. Handlers of ``pthread_atfork`` do not run. Only a
process with a single thread may do this, for which no lock can be held by somebody else; and OpenSSL before 3 would not
notice that it was forked and draw the same random numbers in every child, so there the caller must use ``fork``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from .errors import Unsupported

_SYS_CLONE3 = 435  # the same number on every architecture
_CLONE_INTO_CGROUP = 0x200000000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_PR_GET_TID_ADDRESS = 40

_FIELDS = (
    "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
    "set_tid_size", "cgroup",
)  # fmt: skip


class _Arguments(ctypes.Structure):
    """``struct clone_args`` of linux/sched.h."""

    _fields_ = [(name, ctypes.c_uint64) for name in _FIELDS]


def fork_into(cgroup: str) -> int:
    """As ``os.fork``, with the child in the cgroup at this directory.

    Raises `Unsupported` where it cannot be done (an old kernel, a filter of system calls, no single thread); nothing
    has happened then.
    """
    _check()
    # PyDLL keeps the interpreter's lock over the call, as os.fork does.
    library = ctypes.PyDLL(None, use_errno=True)
    try:
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise Unsupported(f"cannot open {cgroup}: {problem.strerror}") from problem
    try:
        arguments = _Arguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=directory)
        place = ctypes.c_uint64(0)
        if library.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), *[ctypes.c_ulong(0)] * 3) == 0 and place.value:
            # Where the C library keeps the id of this thread; else the child's main thread could not be signalled.
            arguments.flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
            arguments.child_tid = place.value
        library.PyOS_BeforeFork()
        pid: int = library.syscall(_SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
        number = ctypes.get_errno()
        if pid == 0:
            library.PyOS_AfterFork_Child()
        else:
            library.PyOS_AfterFork_Parent()
    finally:
        os.close(directory)
    if pid < 0:
        raise Unsupported(f"cannot clone into {cgroup}: {os.strerror(number)}")
    return pid


def _check() -> None:
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        raise Unsupported("only CPython on Linux")
    import ssl  # late: it costs more than all the rest of this package, and only the keeper forks

    if ssl.OPENSSL_VERSION_INFO < (3,):
        raise Unsupported(f"{ssl.OPENSSL_VERSION} does not notice it")
    if len(os.listdir("/proc/self/task")) != 1:
        raise Unsupported("this process has several threads")
