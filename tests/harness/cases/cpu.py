"""The CPU time of a worker's whole tree, its dead included, against what the burning programs say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from harness.containment import Ground, grounds_of_round
from harness.daemon import turn_runs
from harness.running import wait_until
from harness.scene import PROGRAMS, Scene

ERROR = 0.10
WAYS = {"child": 1, "grandchildren": 6, "orphan": 2, "ignored": 5}
"""Programs of ``programs/burning.py`` and how many processes each has."""

HIDDEN_WITHOUT_CGROUP = "ignored"
"""Its parent ignores SIGCHLD: the kernel then reaps its children at once and counts their time to nobody."""


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """In tests the seed chooses the ground, else nothing."""
    result: dict[str, Any] = {"allowed_error_percent": ERROR * 100}
    for ground in grounds_of_round(seed):
        errors: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(times):
            for way, error in _measure(ground).items():
                errors[way].append(error)
            say(f"{ground.name}, round {number + 1}: " + ", ".join(f"{way} {e[-1]:+.1%}" for way, e in errors.items()))
        result[ground.name] = {way: f"{max(found, key=abs):+.1%}" for way, found in errors.items()}
        counted = [way for way in WAYS if ground.containment == "cgroup" or way != HIDDEN_WITHOUT_CGROUP]
        wrong = {way: errors[way] for way in counted if max(map(abs, errors[way])) > ERROR}
        assert not wrong, f"{ground.name}: off by more than {ERROR:.0%}: {wrong}"
    result["busiest_first"] = [_busiest_first() for _ in range(times)]
    return result


def _measure(ground: Ground) -> dict[str, float]:
    """The error of ``ps --json`` for each way, as a share of the truth; each has a worker of its own."""
    with Scene(ours={"containment": ground.containment}, unprivileged=ground.unprivileged) as scene:
        truth = scene.temporary / "truth"
        scene.configure_ours(agent="burning:make", agent_path=[str(PROGRAMS)], agent_settings={"truth": str(truth)})
        scene.start()
        found = {}
        for way, processes in WAYS.items():
            scene.fake.talk("hello", chat=way)
            before = _seconds(scene, way)
            own = float(scene.fake.talk(f"{way} {processes}", chat=way))
            said = [float(line) for line in truth.read_text().splitlines()]
            assert len(said) == processes, said
            truth.unlink()
            found[way] = (_seconds(scene, way) - before) / (sum(said) + own) - 1.0
        figures = scene.daemon.json("ps")["figures"]
        exact = ground.containment == "cgroup"
        assert figures["exact"] is exact, figures
        assert figures["source"] == ("cgroup" if exact else "proc"), figures
        if not exact:
            told = scene.daemon.ctl("ps").stdout
            assert "may be missing" in told, f"ps does not tell what its figures miss: {told}"
        return found


def _seconds(scene: Scene, chat: str) -> float:
    seconds: float = scene.worker(chat)["cpu_seconds"]
    return seconds


def _busiest_first() -> str:
    with Scene() as scene:
        scene.configure_ours(agent="burning:make", agent_path=[str(PROGRAMS)], agent_settings={"truth": "/dev/null"})
        scene.start()
        for chat in ("a", "busy", "z"):
            scene.fake.talk("hello", chat=chat)
        enough = scene.place / "enough"
        message = scene.fake.say(f"spin {enough}", chat="busy")
        wait_until(lambda: turn_runs(scene.worker("busy")), what="it spins")
        screen = scene.daemon.ctl("top", "--once").stdout
        enough.touch()
        scene.fake.final(message, chat="busy")
        rows: list[str] = re.findall(rf"{re.escape(scene.session(''))}\w+", screen)
        assert rows, screen
        assert rows[0] == scene.session("busy"), screen
        return rows[0]
