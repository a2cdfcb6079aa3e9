"""How a process ended that is nobody's child here: the exit status that the kernel keeps behind a pidfd.

``wait`` gives it to the parent alone. Since Linux 6.15 ``ioctl(pidfd, PIDFD_GET_INFO)`` gives it to whoever held a
pidfd when the process was reaped (``include/uapi/linux/pidfd.h``); before that it can be read from the zombie, as long
as there is one.
"""

from __future__ import annotations

import errno
import os
import struct

from .identity import pid_of, stat_fields

_PIDFD_INFO_EXIT = 1 << 3
_MASK = struct.Struct("=Q")
_EXIT_CODE = struct.Struct("=i")
_EXIT_CODE_AT = 60  # behind mask and cgroupid (64 bits each) and eleven ids of 32 bits
_SIZE = 64  # PIDFD_INFO_SIZE_VER0
_PIDFD_GET_INFO = (3 << 30) | (_SIZE << 16) | (0xFF << 8) | 11  # _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)
_UNKNOWN_TO_KERNEL = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ESRCH)


def exit_code(pidfd: int) -> int | None:
    """As subprocess has it (-9 for SIGKILL); None while the process runs, and where the kernel does not tell."""
    status = _reaped(pidfd)
    if status is None:
        status = _zombie(pidfd)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _reaped(pidfd: int) -> int | None:
    import fcntl  # not there on Windows, where nothing of this is called

    info = bytearray(_SIZE)
    _MASK.pack_into(info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError as problem:
        if problem.errno in _UNKNOWN_TO_KERNEL:
            return None
        raise
    if not _MASK.unpack_from(info)[0] & _PIDFD_INFO_EXIT:
        return None
    status: int = _EXIT_CODE.unpack_from(info, _EXIT_CODE_AT)[0]
    return status


def _zombie(pidfd: int) -> int | None:
    """Field 52 of /proc/PID/stat, which the kernel shows to the same user. A zombie keeps its number."""
    pid = pid_of(pidfd)
    fields = stat_fields(pid) if pid is not None else None
    if fields is None or fields[0] != b"Z" or pid_of(pidfd) != pid:
        return None
    return int(fields[49])
