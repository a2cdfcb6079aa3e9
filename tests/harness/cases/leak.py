"""A worker that leaks 50 MB with each turn and may have 400 MB is recycled between turns: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.figures import summary
from harness.scene import PROGRAMS, Scene

CHAT = "leaking"
LEAK, SOFT, HARD = 50, 300, 400


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A round is a turn; the seed chooses nothing."""
    ours = {
        "agent": "wasteful:make", "agent_path": [str(PROGRAMS)],
        "workers": {"memory_soft": f"{SOFT}M", "memory_hard": f"{HARD}M"},
    }  # fmt: skip
    took: list[float] = []
    pids: list[str] = []
    with Scene(ours=ours) as scene:
        scene.start()
        for number in range(times):
            began = time.monotonic()
            answer = scene.fake.talk(f"leak {LEAK}", chat=CHAT)
            took.append(time.monotonic() - began)
            words = answer.split()
            assert answer.startswith(f"{number} turns before"), f"turn {number}: {answer}"
            if words[-1] not in pids:
                pids.append(words[-1])
            if number % 20 == 19:
                say(f"{number + 1} turns, {len(pids)} workers; a turn took {summary(took)}")
        kept = [line for line in scene.daemon.ctl("doctor").stdout.splitlines() if "memory_hard" in line]
        shown = scene.daemon.ctl("--json", "sessions", "show", CHAT)
        assert '"restarts": 0' in shown.stdout.replace('":0', '": 0'), shown.stdout
    most = HARD // LEAK
    assert times / most <= len(pids) <= times / (SOFT // LEAK) + 2, f"{len(pids)} workers for {times} turns"
    return {"turns": times, "lost": 0, "workers": len(pids), "turn": summary(took), "limits": kept}
