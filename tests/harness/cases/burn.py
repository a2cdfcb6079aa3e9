"""A worker that is busy without a turn, and one whose MCP server is, are found in time, written down and replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.figures import summary
from harness.running import wait_until
from harness.scene import PROGRAMS, Scene

FOUND_SECONDS = 60.0
LASTING = 15.0  # as hermesd has it when nothing is set
CHAT = "burning"


def run(times: int, seed: int, say: Callable[[str], None], *, lasting: float = LASTING) -> dict[str, Any]:
    """The seed chooses nothing. A round is a thread of the agent's with the machine's best containment, and an MCP
    server without cgroups.
    """
    found: dict[str, list[float]] = {"thread": [], "server": []}
    for number in range(times):
        with ThreadPoolExecutor(2) as beside:
            both = {"thread": beside.submit(_thread, lasting), "server": beside.submit(_server, lasting)}
            for what, one in both.items():
                found[what].append(one.result())
        say(f"round {number + 1}: a thread after {found['thread'][-1]:.1f} s, a server {found['server'][-1]:.1f}")
    return {what: summary(seconds) for what, seconds in found.items()}


def _thread(lasting: float) -> float:
    ours = {"agent": "wasteful:make", "agent_path": [str(PROGRAMS)], "workers": _workers(lasting)}
    with Scene(ours=ours).start() as scene:
        scene.fake.talk("hello", chat=CHAT)
        said = time.monotonic()
        first = _pid_in(scene.fake.talk("burn", chat=CHAT))
        evidence, took = _found(scene, lasting, said)
        assert " in spin" in evidence.read_text(), evidence.read_text()
        answer = scene.fake.talk("hello", chat=CHAT)
        assert answer.startswith("2 turns before, 1 of this process"), answer
        assert _pid_in(answer) != first
        return took


def _server(lasting: float) -> float:
    with Scene(ours={"containment": "subreaper", "workers": _workers(lasting)}) as scene:
        scene.configure(one=scene.hostile("be_plain"))
        scene.start()
        said = time.monotonic()
        assert scene.fake.talk("!call one.burn", chat=CHAT) == "burning"
        (server,) = scene.roll.alive()
        evidence, took = _found(scene, lasting, said)
        assert f"  {server} below" in evidence.read_text(), evidence.read_text()
        wait_until(lambda: not scene.roll.alive(), what="its server is dead")
        assert "user: !call one.burn" in scene.fake.talk("!history", chat=CHAT)
        return took


def _workers(lasting: float) -> dict[str, Any]:
    return {"burn_timeout": f"{lasting:g}s"} if lasting != LASTING else {}


def _found(scene: Scene, lasting: float, said: float) -> tuple[Path, float]:
    """Wait until its worker is gone. Returns the evidence with its stacks, and how many seconds after it was ``said``
    that it should burn: by the time its answer is here it may have burned for a while.
    """
    row = scene.worker(CHAT)
    wait_until(lambda: not scene.daemon.workers(), FOUND_SECONDS, what="the burning worker is replaced")
    took = time.monotonic() - said
    shown = scene.daemon.ctl("sessions", "show", CHAT).stdout
    assert "busy without a turn: " in shown, shown
    doctor = next(one for one in scene.daemon.ask("doctor")["findings"] if one["id"] == "hang")
    evidence = Path(doctor["path"])
    log = (scene.daemon.home / "hermesd/logs/hermesd.log").read_text()
    assert f"evidence: {evidence}" in log, log
    for wanted in (f"pid {row['pid']}", "Python stacks", "File "):
        assert wanted in evidence.read_text(), evidence.read_text()
    assert took >= lasting * 0.9, f"judged after {took:.1f} s already"
    return evidence, took


def _pid_in(answer: str) -> int:
    return int(answer.split()[-1])
