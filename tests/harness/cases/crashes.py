"""Five crashes take one session out of service and nobody else; more than twenty over all end hermesd with 75."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.figures import summary
from harness.scene import Scene

QUARANTINE_AFTER = 5
ESCALATE_AFTER = 20
WAYS = ("exit", "segv", "abort", "kill")
BAD, NEIGHBOURS = "bad", ("left", "right")
DIES_SECONDS = 30.0


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    chance = random.Random(seed)
    answered: list[float] = []
    ended: list[float] = []
    for number in range(times):
        _quarantine(chance, answered)
        say(f"round {number + 1}: quarantined and told once, pardoned by /new and by restart; {summary(answered)}")
        ended.append(_escalation(chance))
        say(f"round {number + 1}: exit 75 and nothing left {ended[-1]:.2f} s after the last message")
    return {
        "rounds": times,
        "crashes_to_quarantine": QUARANTINE_AFTER,
        "neighbours_answered": summary(answered),
        "exit_status": 75,
        "ended": summary(ended),
    }


def _quarantine(chance: random.Random, answered: list[float]) -> None:
    with Scene() as scene:
        scene.start()
        fake, session = scene.fake, scene.session(BAD)
        for chat in (BAD, *NEIGHBOURS):
            fake.talk("remember me", chat=chat)
        pids = {chat: scene.worker(chat)["pid"] for chat in NEIGHBOURS}
        _crash_until_quarantined(scene, chance, answered)
        fake.wait_shown("was taken out of service", chat=BAD)
        shown = [one["text"] for one in fake.shown(chat=BAD)]
        assert sum("was taken out of service for 15 minutes" in text for text in shown) == 1, shown
        row = next(row for row in scene.daemon.json("ps")["workers"] if row["session"] == session)
        assert (row["state"], row["pid"], row["restarts"]) == ("quarantined", None, QUARANTINE_AFTER), row
        assert 14 * 60 < row["retry_in_s"] <= 15 * 60, row
        warned = scene.daemon.json("status")["warnings"]
        assert any(one["id"] == "quarantine" and session in one["message"] for one in warned), warned
        assert "out of service for another" in fake.talk("are you there?", chat=BAD)
        fake.talk("/new", chat=BAD)
        assert "no history yet" in fake.talk("!history", chat=BAD)
        fake.talk("and me", chat=BAD)
        _crash_until_quarantined(scene, chance, answered)
        assert scene.daemon.ctl("restart", session).returncode == 0
        assert "and me" in fake.talk("!history", chat=BAD)
        assert {chat: scene.worker(chat)["pid"] for chat in NEIGHBOURS} == pids
        scene.daemon.stop()


def _crash_until_quarantined(scene: Scene, chance: random.Random, answered: list[float]) -> None:
    for _ in range(QUARANTINE_AFTER):
        text = scene.fake.talk(f"!crash {chance.choice(WAYS)}", chat=BAD)
        assert "has died" in text, text
        for chat in NEIGHBOURS:
            began = time.monotonic()
            scene.fake.talk("still fine?", chat=chat)
            answered.append(time.monotonic() - began)


def _escalation(chance: random.Random) -> float:
    """Returns the seconds from the last message to the end of hermesd."""
    with Scene() as scene:
        daemon = scene.daemon
        with subprocess.Popen(
            daemon.command("hermesd"), env=daemon.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                assert process.stderr is not None
                said: list[str] = []
                while " is up: pid " not in (line := process.stderr.readline()):
                    assert line, "".join(said)
                    said.append(line)
                daemon.hold(process.pid)
                chats = [f"chat-{number}" for number in range((ESCALATE_AFTER + 1) // 3)]
                with ThreadPoolExecutor(len(chats)) as pool:
                    list(pool.map(lambda chat: [_crash(scene, chat, way) for way in WAYS[:2]], chats))
                assert process.poll() is None, "it ended after fewer crashes than it should"
                for chat in chats:
                    scene.fake.say(f"!crash {chance.choice(WAYS)}", chat=chat)
                began = time.monotonic()
                rest = process.communicate(timeout=DIES_SECONDS)[1]
                took = time.monotonic() - began
            finally:
                if process.poll() is None:
                    process.kill()
                daemon.release()
        assert process.returncode == 75, (process.returncode, rest)
        assert "workers have crashed within a minute" in rest.splitlines()[-1], rest
        assert rest.splitlines()[-1].startswith("error: "), rest
        log = Path(daemon.home / "hermesd" / "logs" / "hermesd.log").read_text("utf-8")
        assert "CRITICAL" in log, log[-2000:]
        daemon.pid = 0
        daemon.wait_nothing_left(2.0)
        assert not daemon.cgroups()
        assert daemon.ctl("status").returncode == 3
        return took


def _crash(scene: Scene, chat: str, way: str) -> None:
    text = scene.fake.talk(f"!crash {way}", chat=chat)
    assert "has died" in text, text
