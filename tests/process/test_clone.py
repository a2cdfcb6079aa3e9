"""A fork that is born in its cgroup is an ordinary fork in all other respects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from hermesd.workers import containment
from hermesd.workers.containment import clone
from hermesd.workers.containment.errors import ContainmentError, Unsupported
from hermesd.workers.containment.tag import make_tag

PROGRAM = """
import json, os, random, secrets, signal, ssl, sys, threading, time
from hermesd.workers.containment import clone
random.seed()
before = random.getstate()
forked = []
os.register_at_fork(after_in_child=lambda: forked.append("child"))
read, write = os.pipe()
pid = clone.fork_into(sys.argv[1])
if pid == 0:
    caught = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: caught.set())
    # From another thread to the main one: needs the C library's idea of its thread id.
    threading.Thread(target=signal.pthread_kill, args=(threading.main_thread().ident, signal.SIGUSR1)).start()
    told = {
        "cgroup": open("/proc/self/cgroup").read(), "hooks": forked, "caught": caught.wait(30.0),
        "parent": os.getppid(), "pid": os.getpid(), "native": threading.get_native_id(),
        "reseeded": random.getstate() != before, "draw": ssl.RAND_bytes(8).hex(),
    }
    os.write(write, json.dumps(told).encode())
    os._exit(7)
os.close(write)
told = json.loads(os.read(read, 65536))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({**told, "seen": pid, "status": status, "own": os.getpid(), "other": ssl.RAND_bytes(8).hex()}))
"""


@pytest.fixture
def container(home: Any, lacking: Callable[[str], NoReturn]) -> Any:
    try:
        chosen = containment.choose(home.instance, "cgroup").containment
    except ContainmentError as reason:
        lacking(str(reason))
    made = chosen.worker("w1", make_tag(home.instance))
    os.makedirs(os.path.dirname(made.place), exist_ok=True)
    made.create()
    yield made
    while not made.kill_round():
        time.sleep(0.001)
    os.rmdir(os.path.dirname(made.place))


def test_the_child_is_whole_and_in_the_cgroup(container: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{container.place}/agent"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cgroup"].strip().endswith("/w-w1/agent")
    assert told["pid"] == told["native"] == told["seen"]
    assert told["parent"] == told["own"]
    assert told["hooks"] == ["child"]
    assert told["caught"], "a signal to its main thread must arrive"
    assert told["reseeded"]
    assert told["draw"] != told["other"]
    assert told["status"] == 7


def test_with_several_threads_it_is_refused_and_the_container_forks_plainly(container: Any) -> None:
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        with pytest.raises(Unsupported, match="several threads"):
            clone.fork_into(f"{container.place}/agent")
    finally:
        over.set()
        other.join()


def test_without_the_system_call_it_is_forked_plainly(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(cgroup: str) -> int:
        raise Unsupported("cannot clone")

    monkeypatch.setattr(clone, "fork_into", refuse)
    pid = container.fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
