"""A server that exits at once, and ten sessions that call it every second: it is hardly started and costs nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.figures import summary
from harness.scene import Scene

SESSIONS = 10
SECONDS = 300.0
SPAWNS = 8
SHARE = 0.03  # of a core, for hermesd and for each worker
READ_EVERY = 30  # messages: the fake looks through all that was ever shown, and that is hermesd's time
TICKS = os.sysconf("SC_CLK_TCK")


def run(times: int, seed: int, say: Callable[[str], None], *, seconds: float = SECONDS) -> dict[str, Any]:
    """The seed chooses nothing."""
    results = []
    for number in range(times):
        results.append(_round(seconds))
        say(f"round {number + 1}: {results[-1]}")
    return {"rounds": times, "each": results}


def _round(seconds: float) -> dict[str, Any]:
    with Scene() as scene:
        healed = scene.place / "healed"
        bad = scene.hostile("die_until_healed")
        bad["env"] = {**bad["env"], "HEALED": str(healed)}
        scene.configure(bad=bad)
        scene.configure_ours(workers={"max": SESSIONS + 1, "max_turns": SESSIONS, "idle_timeout": "12h"})
        scene.start()
        chats = [f"chat{number}" for number in range(SESSIONS)]
        with ThreadPoolExecutor(SESSIONS) as people:
            list(people.map(lambda chat: scene.fake.talk("hello", chat=chat), chats))
            pids = {row["session"]: row["pid"] for row in scene.daemon.workers()}
            before = {pid: _cpu(pid) for pid in (scene.daemon.pid, *pids.values())}
            began = time.monotonic()
            waits = [wait for found in people.map(lambda chat: _call_on(scene, chat, seconds), chats) for wait in found]
            took = time.monotonic() - began
        shares = {pid: (_cpu(pid) - cpu) / took for pid, cpu in before.items()}
        (budget,) = scene.daemon.ask("mcp.list", figures=False)["budgets"]
        log = (scene.daemon.home / "hermesd/logs/mcp-bad.log").read_text()
        result = {
            "seconds": round(took), "messages": len(waits), "spawns": budget["spawns"],
            "processes_in_its_log": log.count("--- "), "state": budget["state"], "reason": budget["reason"],
            "hermesd_percent": round(100 * shares.pop(scene.daemon.pid), 2),
            "busiest_worker_percent": round(100 * max(shares.values()), 2),
            "waits": summary(waits),
        }  # fmt: skip
        assert budget["spawns"] <= SPAWNS, result
        assert result["processes_in_its_log"] == budget["spawns"], result
        assert budget["state"] in ("backoff", "parked"), result
        assert {row["session"]: row["pid"] for row in scene.daemon.workers()} == pids, "a worker was started again"
        if seconds >= SECONDS:  # in a few seconds the first start of everything is most of it
            assert result["hermesd_percent"] < 100 * SHARE, result
            assert result["busiest_worker_percent"] < 100 * SHARE, result
        healed.touch()
        scene.daemon.ask("mcp.reset", server="bad")
        assert scene.fake.talk("!call bad.echo", chat=chats[0]) == "echo: {}"
        return result


def _call_on(scene: Scene, chat: str, seconds: float) -> list[float]:
    """A message a second; how long each waited for its answer."""
    waits = []
    began = time.monotonic()
    for number in range(int(seconds)):
        time.sleep(max(0.0, began + number - time.monotonic()))
        said = time.monotonic()
        message = scene.fake.say("!call bad.echo", chat=chat)
        answered = scene.fake.ask("wait", count=1, timeout=60.0, chat=chat, reply_to=message, final=True)["met"]
        waits.append(time.monotonic() - said)
        assert answered, f"no answer to {message} in {chat}"
        if number % READ_EVERY == 0:
            text = scene.fake.final(message, chat=chat)["text"]
            assert "no API key: set HOSTILE_KEY" in text, text
    return waits


def _cpu(pid: int) -> float:
    """Seconds of the process itself."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
