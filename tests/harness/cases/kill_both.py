"""``kill -9`` of hermesd and its keeper together: nothing is left, also with a worker that holds the GIL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.census import kill
from harness.containment import Ground, grounds_of_round
from harness.daemon import turn_runs
from harness.figures import summary
from harness.scene import Scene

WAIT_SECONDS = 2.0
"""adopt_timeout."""

GONE_SECONDS = WAIT_SECONDS + 5.0


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """On all its grounds at once. Every second round has a worker that holds the GIL."""
    every = grounds_of_round(seed)
    with ThreadPoolExecutor(len(every)) as pool:
        results = pool.map(lambda ground: _on(ground, times, random.Random(seed), say), every)
        return {"gone_within_s": GONE_SECONDS, **dict(zip((ground.name for ground in every), results, strict=True))}


def _on(ground: Ground, times: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    gone: list[float] = []
    for number in range(times):
        gone.append(_one(ground, chance, hold_the_gil=number % 2 == 0))
        say(f"{ground.name}: both killed {number + 1} of {times} times, nothing left; {summary(gone)}")
    return {"killed": times, "left": 0, "gone": summary(gone)}


def _one(ground: Ground, chance: random.Random, *, hold_the_gil: bool) -> float:
    """Returns the seconds until everything was gone."""
    ours = {"containment": ground.containment, "adopt_timeout": f"{WAIT_SECONDS:g}s"}
    with Scene(ours=ours, unprivileged=ground.unprivileged) as scene:
        scene.configure(plain=scene.hostile("be_plain"), setsid=scene.hostile("leave_a_child"))
        scene.start()
        fake = scene.fake
        for chat in ("one", "two"):
            fake.talk("!start", chat=chat)
        fake.say("!sleep 600", chat="one")
        fake.say("!regex" if hold_the_gil else "!spin", chat="two")
        until = time.monotonic() + 10.0
        while not all(map(turn_runs, scene.daemon.workers())):
            assert time.monotonic() < until, "the turns did not begin"
        time.sleep(chance.uniform(0.0, 0.5))
        keeper = scene.daemon.json("ps")["keeper"]["pid"]
        if chance.random() < 0.5:
            kill(keeper)
            scene.daemon.kill()
        else:
            scene.daemon.kill()
            kill(keeper)
        fake.close()
        took = scene.daemon.wait_nothing_left(GONE_SECONDS)
        assert not scene.roll.alive(), scene.roll.alive()
        assert not scene.daemon.cgroups(), scene.daemon.cgroups()
        return took
