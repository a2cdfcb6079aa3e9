"""Two starts at once: one wins, the other says who. And no stale PID file delays a start."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.daemon import Daemon
from harness.figures import StopWatch, allowed, summary
from harness.scene import Scene

HELD = 73
START_SECONDS = 2.0
"""What a start with a stale PID file may take on a machine that has nothing else to do."""

SLOWER_THAN_FRESH = 1.5
"""What it may take in comparison with a start without any, on a machine that is busy with other things."""


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The seed chooses nothing: the kernel's scheduler does."""
    with Scene() as scene:
        for number in range(times):
            _race(scene.daemon)
            if (number + 1) % 5 == 0 or number + 1 == times:
                say(f"{number + 1} of {times} races: one winner each, the other names it")
    fresh: list[float] = []
    stale: dict[str, list[float]] = {}
    for number in range(max(1, times // 10)):
        with Scene() as scene:
            fresh.append(_time_to_ready(scene.daemon, "true"))
            for name, lines in _stale_files(scene.daemon):
                stale.setdefault(name, []).append(_time_to_ready(scene.daemon, lines))
        say(f"round {number + 1} of stale PID files: fresh {fresh[-1]:.2f} s, "
            + ", ".join(f"{name} {took[-1]:.2f}" for name, took in stale.items()))  # fmt: skip
    limit = allowed(START_SECONDS, SLOWER_THAN_FRESH * max(fresh))
    late = {name: took for name, took in stale.items() if max(took) > limit}
    assert not late, f"these starts took longer than {limit:.2f} s (fresh ones {max(fresh):.2f} s): {late}"
    return {
        "races": times,
        "winners": times,
        "fresh_start": summary(fresh),
        "stale_start": {name: summary(took) for name, took in stale.items()},
    }


def _race(daemon: Daemon) -> None:
    command = daemon.command("hermesd", "--daemon")
    both = [
        subprocess.Popen(command, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outcomes = []
    for process in both:
        out, err = process.communicate(timeout=90)
        outcomes.append((process.returncode, out.strip(), err))
    outcomes.sort()
    (won, winner, _), (lost, nothing, complaint) = outcomes
    assert (won, lost) == (0, HELD), outcomes
    assert not nothing, outcomes
    daemon.hold(int(winner))
    assert re.search(rf"\b{winner}\b", complaint), f"the loser does not name {winner}: {complaint!r}"
    daemon.stop()


def _stale_files(daemon: Daemon) -> Iterator[tuple[str, str]]:
    """What a dead hermesd may have left, as shell lines: they run in the process that becomes the next one."""
    yield "pid 1", _leave(daemon, "1")
    with subprocess.Popen(["sleep", "600"]) as foreign:
        yield "a foreign process that lives", _leave(daemon, str(foreign.pid))
        foreign.kill()
    yield "its own pid", _leave(daemon, "$$")
    yield "garbage", f"head -c 4096 /dev/urandom > {_pid_file(daemon)}"
    yield "empty", f": > {_pid_file(daemon)}"
    yield "another boot", _leave(daemon, str(os.getpid()), "00000000-0000-0000-0000-000000000000")


def _leave(daemon: Daemon, pid: str, boot_id: str = "") -> str:
    record = (
        f'{{"pid": %s, "boot_id": "{boot_id}", "version": "0.1.0", "control_socket": "/nowhere", "started_at": 1.0}}'
    )
    return f"printf '{record}' {pid} > {_pid_file(daemon)}"


def _pid_file(daemon: Daemon) -> str:
    return shlex.quote(str(daemon.home / "hermesd" / "run" / "hermesd.pid"))


def _time_to_ready(daemon: Daemon, lines: str) -> float:
    """Seconds from the exec of hermesd in the foreground until it answers; then it is stopped."""
    Path(daemon.home / "hermesd" / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(daemon.home / "hermesd", 0o700)
    command = shlex.join(daemon.command("hermesd"))
    watch = StopWatch()
    process = subprocess.Popen(
        ["sh", "-c", f"{lines}; exec {command}"], env=daemon.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if b" is up: " in line:
            break
    took = watch.seconds()
    if b" is up: " not in said:
        raise AssertionError(f"{lines}: hermesd did not start, exit {process.wait()}: {said.decode(errors='replace')}")
    daemon.hold(process.pid)
    record = json.loads((daemon.home / "hermesd" / "run" / "hermesd.pid").read_bytes())
    assert record["pid"] == process.pid, record
    process.terminate()
    process.stderr.read()
    assert process.wait(timeout=30) == 0
    process.stderr.close()
    daemon.release()
    assert not daemon.processes(), daemon.processes()
    return took
