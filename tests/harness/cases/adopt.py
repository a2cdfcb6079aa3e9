"""``kill -9`` of hermesd: a new one goes on with the same workers; with none started, nothing is left after a while."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.containment import Ground, grounds_of_round
from harness.daemon import turn_runs
from harness.figures import summary
from harness.scene import Scene
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

WAIT_SECONDS = 2.0
"""adopt_timeout where nobody comes."""

GONE_SECONDS = WAIT_SECONDS + 3.0

PARTS = 20_000
"""Of a streamed answer: it takes about a second."""

MOMENTS = ("mid-turn", "while it streams", "while it asks", "while idle", "twice, the second time in a start")

TEXTS = {"while it streams": f"!stream {PARTS}", "while it asks": "!ask may I", "while idle": ""}


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """On all its grounds at once: most of it is waiting."""
    every = grounds_of_round(seed)
    with ThreadPoolExecutor(len(every)) as pool:
        results = pool.map(lambda ground: _on(ground, times, random.Random(seed), say), every)
        return {"gone_within_s": GONE_SECONDS, **dict(zip((ground.name for ground in every), results, strict=True))}


def _on(ground: Ground, times: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    again: list[float] = []
    ours = {"containment": ground.containment, "adopt_timeout": "10s"}
    with Scene(ours=ours, unprivileged=ground.unprivileged) as scene:
        # So that the answers of every life can be looked at together.
        scene.configure(plain=scene.hostile("be_plain"))
        scene.start()
        said: list[tuple[str, str]] = []
        for number in range(times):
            moment = MOMENTS[number % len(MOMENTS)] if number < len(MOMENTS) else chance.choice(MOMENTS)
            again.append(_adopted(scene, f"chat-{number}", moment, chance, said))
            say(f"{ground.name}: taken over {number + 1} of {times} times ({moment}); {summary(again)}")
        _check(scene, said)
        scene.daemon.stop()
        left = [*scene.daemon.processes(), *scene.roll.alive(), *scene.daemon.cgroups(), *scene.daemon.sockets()]
        assert not left, left
    gone = [_alone(ground) for _ in range(times)]
    say(f"{ground.name}: nobody came {times} times, nothing left; {summary(gone)}")
    return {"taken_over": times, "answered": len(said), "new_start": summary(again), "left": 0, "gone": summary(gone)}


def _adopted(scene: Scene, chat: str, moment: str, chance: random.Random, said: list[tuple[str, str]]) -> float:
    """One death and one new hermesd. Returns the seconds from the death to the new one's readiness."""
    fake = scene.fake
    assert "plain.echo" in fake.talk("!start", chat=chat)
    before = scene.worker(chat)
    text = TEXTS.get(moment, "!sleep 2")
    message = fake.say(text, chat=chat) if text else ""
    if moment == "while it asks":
        fake.wait_shown("may I", chat=chat)
    elif text:
        if moment != "while it streams":
            _wait_busy(scene, chat)
        time.sleep(chance.uniform(0.0, 0.3))
    scene.daemon.kill()
    fake.close()
    began = time.monotonic()
    if moment.startswith("twice"):
        _killed_start(scene, chance.uniform(0.1, 1.0))
    scene.start()
    took = time.monotonic() - began
    if moment == "while it asks":
        asked = [one for one in fake.shown(chat=chat) if "may I" in one["text"]]
        # The death may have come before the platform's yes was on disk: then it goes again, with a mark.
        unmarked = [one for one in asked if PERHAPS_AGAIN not in one["text"]]
        assert len(unmarked) == 1, f"the user was asked again: {asked}"
        assert len(asked) <= 2, f"the user was asked again: {asked}"
        fake.say("/approve", chat=chat)
    if message:
        said.append((chat, message))
        answer = fake.final(message, chat=chat)
        assert answer["kind"] == "answer", answer
        if moment == "while it streams":
            assert answer["text"].split() == [str(part) for part in range(1, PARTS + 1)], answer["text"][-100:]
    history = fake.talk("!history", chat=chat)
    assert "user: !start" in history, history
    after = scene.worker(chat)
    assert after["pid"] == before["pid"], f"{moment}: the worker was {before}, it is {after}"
    assert after["worker"] == before["worker"], after
    assert after["mcp"][0]["pid"] == before["mcp"][0]["pid"], (before["mcp"], after["mcp"])
    return took


def _wait_busy(scene: Scene, chat: str) -> None:
    until = time.monotonic() + 10.0
    while not turn_runs(scene.worker(chat)):
        assert time.monotonic() < until, "the turn did not begin"


def _killed_start(scene: Scene, seconds: float) -> None:
    """A hermesd that is killed somewhere in its start."""
    starting = subprocess.Popen(
        scene.daemon.command("hermesd"), env=scene.daemon.env,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(seconds)
    finally:
        starting.send_signal(signal.SIGKILL)
        starting.wait()


def _check(scene: Scene, said: list[tuple[str, str]]) -> None:
    """Each accepted message has one answer, and a second one only with its mark."""
    wrong = []
    for chat, message in said:
        answers = [one["text"] for one in scene.fake.shown(chat=chat, reply_to=message) if one["final"]]
        if sum(PERHAPS_AGAIN not in text for text in answers) != 1 or len(answers) > 2:
            wrong.append((chat, message, answers))
    assert not wrong, wrong


def _alone(ground: Ground) -> float:
    """Nobody comes: seconds until everything is gone."""
    ours = {"containment": ground.containment, "adopt_timeout": f"{WAIT_SECONDS:g}s"}
    with Scene(ours=ours, unprivileged=ground.unprivileged) as scene:
        scene.configure(
            plain=scene.hostile("be_plain"), setsid=scene.hostile("leave_a_child"), hidden=scene.hostile("hide")
        )
        scene.start()
        scene.fake.talk("!start", chat="one")
        scene.fake.say("!sleep 600", chat="one")
        _wait_busy(scene, "one")
        scene.daemon.kill()
        scene.fake.close()
        took = scene.daemon.wait_nothing_left(GONE_SECONDS)
        assert took >= WAIT_SECONDS - 1.0, f"everything was gone after {took:.2f} s: nobody waited"
        assert not scene.daemon.cgroups(), scene.daemon.cgroups()
        assert not scene.roll.alive(), scene.roll.alive()
        return took
