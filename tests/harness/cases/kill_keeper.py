"""``kill -9`` of the keeper: running turns end in their workers, new sessions start, and a stop leaves nothing."""

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

ROUNDS_PER_DAEMON = 3
"""hermesd waits longer each time before it replaces a keeper that died young, rightly."""

TURN_SECONDS = 2.0
"""It must be seen to run, also where the machine stands still for a second meanwhile."""


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """On all its grounds at once."""
    every = grounds_of_round(seed)
    with ThreadPoolExecutor(len(every)) as pool:
        results = pool.map(lambda ground: _on(ground, times, random.Random(seed), say), every)
        return dict(zip((ground.name for ground in every), results, strict=True))


def _on(ground: Ground, times: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    started: list[float] = []
    while len(started) < times:
        few = min(ROUNDS_PER_DAEMON, times - len(started))
        # What was being started when the keeper died has nobody to tell of it, and ends itself after this time.
        ours = {"containment": ground.containment, "adopt_timeout": "2s"}
        with Scene(ours=ours, unprivileged=ground.unprivileged) as scene:
            scene.configure(plain=scene.hostile("be_plain"), setsid=scene.hostile("leave_a_child"))
            scene.start()
            for number in range(few):
                started.append(_one(scene, number, chance))
            _workers_of_dead_keepers_can_be_ended(scene)
            scene.daemon.stop()
            left = [*scene.daemon.processes(), *scene.roll.alive(), *scene.daemon.cgroups(), *scene.daemon.sockets()]
            assert not left, left
        say(f"{ground.name}: {len(started)} of {times} keepers killed, nothing left; {summary(started)}")
    return {"killed": times, "left": 0, "new_session_answers": summary(started)}


def _one(scene: Scene, number: int, chance: random.Random) -> float:
    """Returns the seconds from the death to the first answer of a new session."""
    fake, chat = scene.fake, f"chat-{number}"
    fake.talk("!start", chat=chat)
    keeper = scene.daemon.ask("ps")["keeper"]["pid"]
    message = fake.say(f"!sleep {TURN_SECONDS:g}", chat=chat)
    until = time.monotonic() + 10.0
    while not turn_runs(before := scene.worker(chat)):
        assert time.monotonic() < until, "the turn did not begin"
    time.sleep(chance.uniform(0.0, 0.2))
    began = time.monotonic()
    kill(keeper)
    # The spare may have answered the first; the second needs the new keeper.
    for place in range(2):
        fake.talk("hello", chat=f"new-{number}-{place}")
    took = time.monotonic() - began
    answer = fake.final(message, chat=chat)
    assert "Slept for" in answer["text"], answer
    fake.talk("!start", chat=chat)
    after = scene.worker(chat)
    assert after["pid"] == before["pid"], f"the worker was {before}, it is {after}"
    status = scene.daemon.json("status")
    assert status["state"] in ("running", "degraded"), status
    assert scene.daemon.json("ps")["keeper"]["pid"] != keeper
    return took


def _workers_of_dead_keepers_can_be_ended(scene: Scene) -> None:
    """By the new keeper, and their ends are noticed."""
    before = scene.worker("chat-0")
    kill(before["pid"])
    assert "user: !start" in scene.fake.talk("!history", chat="chat-0")
    after = scene.worker("chat-0")
    assert after["pid"] != before["pid"], after
    assert after["restarts"] == 1, after
