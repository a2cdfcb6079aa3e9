"""``hermesd --replace``: end the hermesd that holds this home, by its own door first.

Only the process that the lock names is ever signalled, by pidfd and start time, never a bare number.
"""

from __future__ import annotations

import os
import signal
import time

from . import lock
from .errors import InstanceError
from .paths import Paths

STEP = 0.02

KILL_SECONDS = 5.0


def end_holder(paths: Paths, budget: float) -> None:
    """Returns when nobody holds the home any more. ``budget``: the seconds that its polite stop may take.

    Raises `InstanceError` when it cannot be ended.
    """
    standing = lock.describe(paths)
    if standing.state != "running":
        return
    record = standing.record
    if record is None or not record.is_alive():
        raise InstanceError(f"cannot replace the hermesd of {paths.home}: it has not said its pid yet; try again")
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        # The pid was free to be used again until the pidfd held it.
        if not record.is_alive():
            return
        for number, seconds in ((signal.SIGTERM, budget), (signal.SIGKILL, KILL_SECONDS)):
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise InstanceError(f"cannot replace pid {record.pid}: it belongs to another user") from error
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if not lock.is_held(paths.lock):
                    return
                time.sleep(STEP)
        raise InstanceError(f"cannot replace pid {record.pid}: it does not end, even after SIGKILL")
    finally:
        os.close(pidfd)
