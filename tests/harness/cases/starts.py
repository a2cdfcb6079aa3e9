"""Two starts at once: one wins, the other says who. And no stale PID file delays a start."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.daemon import Daemon
from harness.figures import summary
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
    allowed = max(START_SECONDS, SLOWER_THAN_FRESH * max(fresh))
    late = {name: took for name, took in stale.items() if max(took) > allowed}
    assert not late, f"these starts took longer than {allowed:.2f} s (fresh ones {max(fresh):.2f} s): {late}"
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
    yield "pid 1", _leave(daemon, {**_record(), "pid": 1})
    with subprocess.Popen(["sleep", "600"]) as foreign:
        yield "a foreign process that lives", _leave(daemon, {**_record(), "pid": foreign.pid})
        foreign.kill()
    yield "its own pid", _leave(daemon, _record()).replace('"pid": 0', '"pid": $$')
    yield "garbage", f"head -c 4096 /dev/urandom > {_pid_file(daemon)}"
    yield "empty", f": > {_pid_file(daemon)}"
    other_boot = {**_record(), "pid": os.getpid(), "boot_id": "00000000-0000-0000-0000-000000000000"}
    yield "another boot", _leave(daemon, other_boot)


def _record() -> dict[str, Any]:
    return {"pid": 0, "version": "0.1.0", "control_socket": "/nowhere/control.sock", "started_at": 1.0}


def _leave(daemon: Daemon, record: dict[str, Any]) -> str:
    quoted = json.dumps(record).replace("\\", "\\\\").replace('"', '\\"')
    return f'echo "{quoted}" > {_pid_file(daemon)}'.replace('\\"pid\\": 0', '"pid": 0')


def _pid_file(daemon: Daemon) -> str:
    return shlex.quote(str(daemon.home / "hermesd" / "run" / "hermesd.pid"))


def _time_to_ready(daemon: Daemon, lines: str) -> float:
    """Seconds from the exec of hermesd in the foreground until it answers; then it is stopped."""
    Path(daemon.home / "hermesd" / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(daemon.home / "hermesd", 0o700)
    command = shlex.join(daemon.command("hermesd"))
    began = time.monotonic()
    process = subprocess.Popen(
        ["sh", "-c", f"{lines}; exec {command}"], env=daemon.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if b" is up: " in line:
            break
    took = time.monotonic() - began
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
