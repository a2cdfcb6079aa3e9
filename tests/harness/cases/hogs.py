"""One session spins in Python, one holds the GIL in C: a third does not notice, and both can be stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from harness.figures import StopWatch, allowed, quantile, summary
from harness.hops import hops
from harness.scene import Scene

TURNS_A_ROUND = 100
P99_SECONDS = 0.050
STOP_SECONDS = 5.0
SPIN, REGEX, THIRD = "spin", "regex", "third"


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A round is a hundred turns; the seed chooses nothing. In tests, on a machine that is busy with other things
    besides, the third session is compared with itself before the hogs came.
    """
    with Scene().start() as scene:
        for chat in (SPIN, REGEX, THIRD):
            scene.fake.talk("hello", chat=chat)
        quiet = _turns(scene, TURNS_A_ROUND)
        say(f"{len(quiet)} turns before: {summary(quiet)}, load {os.getloadavg()[0]:.1f}")
        hogs = {chat: scene.fake.say(text, chat=chat) for chat, text in ((SPIN, "!spin 3600"), (REGEX, "!regex"))}
        _wait_burning(scene)
        took: list[float] = []
        for number in range(times):
            took += _turns(scene, TURNS_A_ROUND)
            say(
                f"{len(took)} turns beside the hogs, round {number + 1}: {summary(took)}, load {os.getloadavg()[0]:.1f}"
            )
        stopped = {}
        for chat, message in hogs.items():
            watch = StopWatch()
            done = scene.daemon.ctl("stop", scene.session(chat))
            stopped[chat] = watch.seconds()
            assert done.returncode == 0, done.stderr
            assert stopped[chat] <= STOP_SECONDS, f"stop of {chat} took {stopped[chat]:.2f} s"
            assert scene.session(chat) not in [row["session"] for row in scene.daemon.workers()]
            answer = scene.fake.final(message, chat=chat)
            assert "nterrupted" in answer["text"], answer
            say(f"stop of {chat} was confirmed after {stopped[chat]:.2f} s")
        shown = scene.fake.shown(chat=THIRD)
        scene.daemon.stop()
        hopped = {name: summary(values) for name, values in hops(scene.daemon.home, shown, THIRD).items()}
    p99 = quantile(took, 0.99)
    result = {
        "turns": len(took),
        "accepted_to_answered": summary(took),
        "before_the_hogs": summary(quiet),
        "hops": hopped,
        "stop": {chat: round(seconds, 3) for chat, seconds in stopped.items()},
        "p99_below_50_ms": p99 < P99_SECONDS,
        "load": os.getloadavg()[0],
    }
    assert p99 < allowed(P99_SECONDS, 4 * max(quiet)), result
    return result


def _turns(scene: Scene, count: int) -> list[float]:
    """Seconds from hermesd's word that it has the message to the answer, as their sender sees it."""
    took = []
    for number in range(count):
        message = scene.fake.say(f"turn {number}", chat=THIRD)
        accepted = StopWatch()
        met = scene.fake.ask("wait", count=1, timeout=30.0, chat=THIRD, reply_to=message, final=True)["met"]
        took.append(accepted.seconds())
        assert met, f"turn {number} was not answered"
    return took


def _wait_burning(scene: Scene) -> None:
    """Until both have used a second of CPU."""
    until = time.monotonic() + 60.0
    while True:
        used = {row["session"]: row["cpu_seconds"] for row in scene.daemon.workers()}
        if all(used[scene.session(chat)] > 1.0 for chat in (SPIN, REGEX)):
            return
        assert time.monotonic() < until, used
        time.sleep(0.2)
