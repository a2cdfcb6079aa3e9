"""Kill requests for processes that are dead and whose pids are other processes' by now: not a signal reaches those."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from harness.scene import PROGRAMS, TESTS

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def lacks() -> str:
    """Why this machine cannot show it; "" if it can."""
    if sys.platform != "linux":
        return "pid namespaces are Linux's"
    if os.geteuid() != 0:
        return "needs root to make a pid namespace and to choose pids in it"
    if shutil.which("unshare") is None:
        return "there is no unshare (util-linux)"
    choose = "echo 400 > /proc/sys/kernel/ns_last_pid"
    tried = subprocess.run([*NAMESPACE, "sh", "-c", choose], capture_output=True, text=True, timeout=30)
    return f"cannot choose pids in a namespace: {tried.stderr.strip()}" if tried.returncode else ""


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``times``: kill requests. The seed chooses the order of the ways to kill, and the signals."""
    assert not (reason := lacks()), reason
    command = [*NAMESPACE, sys.executable, str(PROGRAMS / "recycling.py"), str(times), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + times)
    assert done.returncode == 0, done.stderr or f"exit status {done.returncode}"
    result: dict[str, Any] = json.loads(done.stdout)
    say(", ".join(f"{way} {count}" for way, count in result["requests"].items()))
    assert sum(result["requests"].values()) == times, result
    assert not result["signals"], f"signals to foreign processes: {result['signals']}"
    return result
