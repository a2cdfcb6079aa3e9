"""The exit status of a process that is nobody's child here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hermesd.workers.containment import pidfd_info
from hermesd.workers.containment.identity import wait_dead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pidfds are Linux'")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("raise SystemExit(0)", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_it_is_read_from_a_zombie_and_from_behind_a_pidfd_when_it_was_reaped(code: str, status: int) -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"input(); {code}"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    try:
        assert pidfd_info.exit_code(pidfd) is None
        child.stdin.write(b"\n")
        child.stdin.close()
        assert wait_dead(pidfd, 10.0)
        assert pidfd_info.exit_code(pidfd) == status, "a zombie"
        assert child.wait() == status
        # Nobody can know it of the reaped before Linux 6.15.
        assert pidfd_info.exit_code(pidfd) == (status if tells_of_the_reaped() else None)
    finally:
        os.close(pidfd)


def tells_of_the_reaped() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdigit, minor)))) >= (6, 15)
