from __future__ import annotations

import os
import signal
import subprocess

import pytest

from hermesd.workers.containment import prctl
from hermesd.workers.containment.identity import (
    Identity,
    identify,
    is_dead,
    open_pidfd,
    pid_of,
    send,
    signal_process,
    wait_dead,
)


@pytest.fixture
def child():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_is_signalled_by_its_identity(child) -> None:
    identity = identify(child.pid)
    assert signal_process(identity, signal.SIGSTOP, signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
    assert not signal_process(identity, signal.SIGKILL)
    assert identify(child.pid) is None


def test_a_number_that_was_given_to_another_process_is_not_signalled(child) -> None:
    identity = identify(child.pid)
    earlier = Identity(child.pid, identity.start_ticks - 1)
    assert open_pidfd(earlier) is None
    assert not signal_process(earlier, signal.SIGKILL)
    assert child.poll() is None


def test_a_pidfd_tells_the_death_also_of_a_zombie(child) -> None:
    pidfd = open_pidfd(identify(child.pid))
    assert pid_of(pidfd) == child.pid
    assert not is_dead(pidfd)
    assert send(pidfd, signal.SIGKILL)
    assert wait_dead(pidfd, 5)
    child.wait()
    assert is_dead(pidfd)
    assert pid_of(pidfd) is None
    assert not send(pidfd, signal.SIGKILL)
    os.close(pidfd)


def test_a_pidfd_is_not_inherited(child) -> None:
    pidfd = open_pidfd(identify(child.pid))
    assert not os.get_inheritable(pidfd)
    os.close(pidfd)


def test_process_attributes_can_be_set_and_read() -> None:
    assert not prctl.is_child_subreaper()
    prctl.set_child_subreaper()
    assert prctl.is_child_subreaper()
    prctl.set_child_subreaper(False)
    assert prctl.is_dumpable()
    prctl.set_dumpable(False)
    assert not prctl.is_dumpable()
    prctl.set_dumpable(True)
