"""``kill -9`` of hermesd that nobody is to take over from: nothing is left after 5 s, and the next start knows."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from typing import Any

from harness.containment import Ground, grounds_of_round
from harness.daemon import turn_runs
from harness.figures import allowed, summary
from harness.scene import Scene
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

GONE_SECONDS = 5.0
IMPORT_SECONDS = 5.0

MOMENTS = ("while starting", "mid-turn", "while servers start", "while idle", "after many messages")


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    result: dict[str, Any] = {"gone_within_s": GONE_SECONDS}
    for ground in grounds_of_round(seed):
        life = _Lives(ground, random.Random(seed))
        with life.scene:
            for number in range(times):
                life.one(number)
                say(f"{ground.name}: hermesd killed {number + 1} of {times} times, nothing left; {summary(life.gone)}")
            life.check_answers()
            life.scene.daemon.stop()
            assert not life.scene.daemon.cgroups(), life.scene.daemon.cgroups()
            result[ground.name] = {
                "killed": times,
                "left": 0,
                "gone": summary(life.gone),
                "next_start": summary(life.started),
                "messages": len(life.said),
                "answered": len(life.said),
                "told_lost": life.told_lost,
                "sent_again_with_a_mark": life.marked,
            }
    return result


class _Lives:
    """One home whose hermesd is killed again and again; every message that it accepted is on ``said``."""

    def __init__(self, ground: Ground, chance: random.Random):
        # Nobody comes; what a hermesd does that comes in time is the case "adopt".
        self.scene = Scene(ours={"containment": ground.containment}, unprivileged=ground.unprivileged)
        self.scene.configure(
            plain=self.scene.hostile("be_plain"),
            setsid=self.scene.hostile("leave_a_child"),
            hidden=self.scene.hostile("hide"),
        )
        self.gone: list[float] = []
        self.started: list[float] = []
        self.said: list[tuple[str, str, bool]] = []  # chat, message, and whether its turn was surely running
        self.told_lost = self.marked = 0
        self._chance = chance

    def one(self, number: int) -> None:
        scene, fake = self.scene, self.scene.fake
        moment = self._chance.choice(MOMENTS)
        if moment == "while starting":
            self._kill_while_starting()
            return
        began = time.monotonic()
        scene.start()
        self.started.append(time.monotonic() - began)
        chats = [f"round-{number}-{place}" for place in range(3)]
        for chat in chats[:2]:
            fake.talk("!start", chat=chat)
        if moment == "mid-turn":
            for chat in chats[:2]:
                self._say("!sleep 600", chat, running=True)
            self._wait_running(2)
        elif moment == "while servers start":
            self._say("!start", chats[2], running=False)
            time.sleep(self._chance.uniform(0.0, 0.3))
        elif moment == "after many messages":
            for turn in range(20):
                self._say(f"message {turn}", chats[turn % 3], running=False)
            time.sleep(self._chance.uniform(0.0, 0.1))
        scene.daemon.kill()
        fake.close()
        self.gone.append(scene.daemon.wait_nothing_left(GONE_SECONDS))
        assert not scene.daemon.cgroups(), scene.daemon.cgroups()
        assert not scene.roll.alive(), scene.roll.alive()

    def _kill_while_starting(self) -> None:
        """Anywhere from its exec to a second later, when a quiet machine has it up and a busy one has not."""
        daemon = self.scene.daemon
        with subprocess.Popen(
            daemon.command("hermesd"), env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as starting:  # fmt: skip
            time.sleep(self._chance.uniform(0.0, 1.0))
            starting.kill()
        # An empty directory of its own may stay, when it was trying what this system gives; the next start removes it.
        # A keeper that is at its imports waits for another hermesd when it is through with them.
        self.gone.append(daemon.wait_nothing_left(allowed(GONE_SECONDS, GONE_SECONDS + IMPORT_SECONDS)))

    def _say(self, text: str, chat: str, *, running: bool) -> None:
        self.said.append((chat, self.scene.fake.say(text, chat=chat), running))

    def _wait_running(self, count: int) -> None:
        until = time.monotonic() + 10.0
        while sum(map(turn_runs, self.scene.daemon.workers())) < count:
            assert time.monotonic() < until, "the turns did not begin"

    def check_answers(self) -> None:
        """In one more life: every accepted message has a final answer, and a turn that ran was told as lost.

        A second answer is allowed only where hermesd died between the platform's call and its own note of it, and then
        it must say so.
        """
        self.scene.start()
        wrong = []
        for chat, message, running in self.said:
            self.scene.fake.final(message, chat=chat)
            answers = [one for one in self.scene.fake.shown(chat=chat, reply_to=message) if one["final"]]
            again = [one for one in answers if PERHAPS_AGAIN in one["text"]]
            lost = "hermesd was restarted" in answers[0]["text"]
            self.told_lost += lost
            self.marked += len(again)
            if len(answers) - len(again) > 1 or len(answers) > 2 or (running and not lost):
                wrong.append((chat, message, [one["text"] for one in answers]))
        assert not wrong, wrong
