"""A worker and an MCP server write 50 MB/s to standard error: nobody is held up by it, and no file passes its cap."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.figures import StopWatch, summary
from harness.scene import PROGRAMS, Scene

SECONDS = 30.0
RATE = 50  # MB/s
LOGS = {"max_size": "1M", "backups": 2, "session_size": "128K", "sessions": 20}
SHARED_CAP = 3 << 20
SESSION_CAP = 2 * (128 << 10)
SERVER_CAP = 2 << 20
ANSWERED = 2.0  # seconds; a worker that waited for its log would not answer before the flood is over
LAG = 0.25  # seconds of hermesd's loop, p99
GREW = 64 << 20  # bytes of hermesd, with everything that is on its way to the log


def run(times: int, seed: int, say: Callable[[str], None], *, seconds: float = SECONDS) -> dict[str, Any]:
    """The seed chooses nothing."""
    results = []
    for number in range(times):
        results.append(_round(seconds))
        say(f"round {number + 1}: {results[-1]}")
    return {"rounds": times, "seconds": seconds, "each": results}


def _round(seconds: float) -> dict[str, Any]:
    with Scene(ours={"agent": "loud:make", "agent_path": [str(PROGRAMS)], "logs": LOGS}) as scene:
        server = scene.hostile("flood_stderr")
        server["env"] = {**server["env"], "FLOOD_MB_PER_SECOND": str(RATE)}
        scene.configure(noisy=server)
        scene.start()
        fake = scene.fake
        for chat in ("quiet", "loud", "server"):
            fake.talk("hello", chat=chat)
        before = _memory(scene.daemon.pid)
        quiet = [_timed(scene, "hello", "quiet") for _ in range(20)]
        fake.talk(f"print {RATE} {seconds}", chat="loud")
        fake.talk("call noisy echo", chat="server")
        flood = StopWatch()
        until = time.monotonic() + seconds
        took: dict[str, list[float]] = {"quiet": [], "loud": [], "server": []}
        grown = 0
        while time.monotonic() < until:
            took["quiet"].append(_timed(scene, "hello", "quiet"))
            took["loud"].append(_timed(scene, "hello", "loud"))
            took["server"].append(_timed(scene, "call noisy echo", "server"))
            grown = max(grown, _memory(scene.daemon.pid) - before)
        stood_still = flood.lost()
        lag = scene.daemon.json("status")["loop"]["lag_ms_p99"] / 1000
        result = {
            "before": summary(quiet),
            **{chat: summary(values) for chat, values in took.items()},
            "loop_lag_p99": round(lag, 3),
            "hermesd_grew_bytes": grown,
            "log_bytes": _check_sizes(scene.daemon.home / "hermesd" / "logs"),
            "load": round(os.getloadavg()[0], 1),
        }
        for chat, values in took.items():
            assert max(values) < ANSWERED, f"{chat} waited {max(values):.2f} s: {result}"
        # One late round of the loop is its p99 in so few seconds.
        assert lag < max(LAG, 4 * max(quiet)) + stood_still, result
        assert grown < GREW, result
        result["worker_mb_per_s"] = round(_dropped(scene.daemon.home / "hermesd" / "logs") / seconds / 1e6, 1)
        assert result["worker_mb_per_s"] > RATE / 10, result  # it was a flood
        return result


def _dropped(directory: Path) -> int:
    """Bytes of standard error that the worker has read and not kept, as the log says."""
    text = ""
    for path in directory.glob("hermesd.log*"):
        with contextlib.suppress(FileNotFoundError):  # the oldest may go meanwhile
            text += path.read_text("utf-8")
    return sum(map(int, re.findall(r'"(\d+) bytes of output not kept"', text)))


def _timed(scene: Scene, text: str, chat: str) -> float:
    watch = StopWatch()
    scene.fake.talk(text, chat=chat)
    return watch.seconds()


def _check_sizes(directory: Path) -> dict[str, int]:
    """Each file is looked at once, for all of them grow, and under its name of that moment."""
    sizes = {"shared": 0, "sessions": 0, "server": 0, "others": 0}
    sessions = set()
    for path in (*directory.glob("*.log"), *directory.glob("*.log.?"), *directory.glob("sessions/*")):
        kind = "others"
        if path.parent != directory:
            kind = "sessions"
            sessions.add(path.name.removesuffix(".1"))
        elif path.name.startswith(("hermesd.log", "mcp-")):
            kind = "shared" if path.name.startswith("hermesd") else "server"
        with contextlib.suppress(FileNotFoundError):  # it was full, and has another name by now
            sizes[kind] += path.stat().st_size
    assert sizes["shared"] <= SHARED_CAP, sizes
    assert sizes["server"] <= SERVER_CAP, sizes
    assert sizes["sessions"] <= SESSION_CAP * len(sessions), sizes
    assert sizes["others"] <= 1 << 20, sizes
    return sizes


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
