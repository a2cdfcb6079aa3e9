"""Who may do what over the control socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from hermesd.supervisor.control.access import NO_PID, Access, Peer, may_connect, peer_of, refusal


def inside(pid: int) -> bool:
    return True


def outside(pid: int) -> bool:
    return False


@pytest.fixture
def living() -> Peer:
    return Peer(os.getuid(), os.getpid(), os.pidfd_open(os.getpid()))


def test_our_own_user_and_root_may_connect_and_nobody_else() -> None:
    assert may_connect(Peer(1000, 5), 1000)
    assert may_connect(Peer(0, 5), 1000)
    assert not may_connect(Peer(1001, 5), 1000)
    assert not may_connect(Peer(1000, 5), 0)


def test_everybody_who_is_connected_may_look() -> None:
    assert refusal(Access.READ, Peer(1000, NO_PID), inside) == ""


def test_a_process_outside_our_containers_may_change_things(living: Peer) -> None:
    assert refusal(Access.ADMIN, living, outside) == ""
    living.close()


def test_a_process_in_one_of_our_containers_may_only_look(living: Peer) -> None:
    assert "runs in a container" in refusal(Access.ADMIN, living, inside)
    living.close()


def test_a_process_of_another_pid_namespace_may_only_look() -> None:
    assert "pid namespace" in refusal(Access.ADMIN, Peer(1000, NO_PID), outside)


def test_a_peer_that_has_died_may_only_look_for_nobody_knows_where_it_ran() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    peer = Peer(os.getuid(), child.pid, os.pidfd_open(child.pid))
    child.wait()
    assert "is gone" in refusal(Access.ADMIN, peer, outside)
    peer.close()
    assert "is gone" in refusal(Access.ADMIN, Peer(os.getuid(), child.pid), outside)


def test_the_system_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
        assert (peer.uid, peer.pid) == (os.getuid(), os.getpid())
        assert peer.alive
        peer.close()
