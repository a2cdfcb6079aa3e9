"""Stopped workers are found in time with evidence; a paused hermesd and a worker busy in C judge and lose nobody."""

from __future__ import annotations

import os
import random
import signal
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from harness import figures
from harness.daemon import turn_runs
from harness.figures import StopWatch, summary
from harness.scene import Scene

HANG_TIMEOUT = 2.0
FOUND_SECONDS = HANG_TIMEOUT + 5.0
KEEPER_SECONDS = HANG_TIMEOUT + 13.0
"""For a keeper to be found hung and for another one to start."""
TURN_TIMEOUT = 4.0
"""Longer than a turn that only answers takes on a machine that stands still meanwhile."""
OVERRUN_SECONDS = TURN_TIMEOUT + 8.0
PATIENCE = 60.0
BUSY, IN_C, SLEEPER, STUCK = "busy", "in-c", "sleeper", "stuck"


def _pause_seconds() -> float:
    """More than twice the time limit."""
    return 30.0 if figures.STRICT else 5.0


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A round pauses hermesd over workers of every kind, then stops an idle one and one in the middle of a turn."""
    with ThreadPoolExecutor(1) as beside:
        overrun = beside.submit(_overrun)
        result = _hangs(times, random.Random(seed), say)
        result["ended_in_c_s"] = round(overrun.result(), 2)
    say(f"turns that took longer than {TURN_TIMEOUT:g} s were ended; in C after {result['ended_in_c_s']:.2f} s")
    return result


def _hangs(times: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    found: dict[str, list[float]] = {"mid_turn": [], "idle": []}
    with Scene(ours={"workers": {"hang_timeout": f"{HANG_TIMEOUT}s"}}) as scene:
        scene.start()
        fake = scene.fake
        for chat in (IN_C, SLEEPER):
            fake.talk("hello", chat=chat)
        in_c = fake.say("!regex", chat=IN_C)
        _wait(lambda: "silent_s" in scene.worker(IN_C), "a worker in C is shown as silent")
        for number in range(times):
            # Chats of its own: one whose worker is ended five times within a minute is put out of service.
            idle_chat, busy_chat = f"idle-{number}", f"busy-{number}"
            for chat in (idle_chat, busy_chat):
                fake.talk("hello", chat=chat)
            busy = fake.say("!sleep 600", chat=busy_chat)
            _wait(partial(_turn_runs, scene, busy_chat), "the turn runs")
            _pause(scene)
            say(f"round {number + 1}: hermesd was stopped for {_pause_seconds():g} s and judged nobody")
            time.sleep(chance.uniform(0.0, 1.0))  # anywhere between two heartbeats
            with ThreadPoolExecutor(1) as beside:
                idle = beside.submit(_stopped_idle, scene, idle_chat)
                found["mid_turn"].append(_stopped_mid_turn(scene, busy_chat, busy))
                found["idle"].append(idle.result())
            say(f"round {number + 1}: found mid-turn after {found['mid_turn'][-1]:.2f} s, idle {found['idle'][-1]:.2f}")
        replaced = _stopped_keeper(scene)
        row = scene.worker(IN_C)
        assert (row["state"], row["restarts"]) == ("busy", 0), row
        assert row["silent_cpu_s"] > 0.2 * row["silent_s"], row
        warned = [one for one in scene.daemon.json("status")["warnings"] if one["id"] == "silent"]
        assert [scene.session(IN_C) in one["message"] for one in warned] == [True], warned
        assert f"{row['state']}(silent" in scene.daemon.ctl("ps").stdout
        assert scene.daemon.ctl("stop", scene.session(IN_C)).returncode == 0
        assert "nterrupted" in fake.final(in_c, chat=IN_C)["text"]
        scene.daemon.stop()
    return {
        "rounds": times,
        "hang_timeout": HANG_TIMEOUT,
        "found_within_s": FOUND_SECONDS,
        "found": {kind: summary(took) for kind, took in found.items()},
        "stopped_keeper_replaced_s": round(replaced, 2),
        "pauses_of_hermesd": times,
        "pause_s": _pause_seconds(),
        "judged_by_mistake": 0,
        "turn_timeout": TURN_TIMEOUT,
    }


def _pause(scene: Scene) -> None:
    """Stop hermesd for longer than any worker may be silent: afterwards everybody is who he was."""
    before = _who(scene)
    scene.daemon.signal(signal.SIGSTOP)
    time.sleep(_pause_seconds())
    scene.daemon.signal(signal.SIGCONT)
    assert scene.fake.talk("still there?", chat=SLEEPER)
    began = time.monotonic()
    while time.monotonic() - began < 2.2:  # two looks at least
        now = _who(scene)
        assert now == before, f"hermesd judged somebody by its own pause: {before} became {now}"
        time.sleep(0.5)


def _turn_runs(scene: Scene, chat: str) -> bool:
    return turn_runs(scene.worker(chat))


def _who(scene: Scene) -> dict[str, tuple[int, int]]:
    return {row["session"]: (row["pid"], row["restarts"]) for row in scene.daemon.workers()}


def _stopped_mid_turn(scene: Scene, chat: str, turn: str) -> float:
    """Returns the seconds from the stop of the process to the word in its chat."""
    fake, session = scene.fake, scene.session(chat)
    worker = scene.worker(chat)
    watch = StopWatch()
    os.kill(worker["pid"], signal.SIGSTOP)
    told = fake.final(turn, chat=chat, seconds=PATIENCE)
    took = watch.seconds()
    assert took <= FOUND_SECONDS, f"a stopped worker was found after {took:.2f} s"
    assert told["kind"] == "error", told
    assert "hung: no sign of life and no CPU time" in told["text"], told
    assert "/retry" in told["text"], told
    shown = scene.daemon.json("sessions", "show", session)
    assert shown["last_turns"][0]["state"] == "lost", shown
    _check_evidence(Path(shown["evidence"]), worker, turn=shown["last_turns"][0]["turn"])
    for place in (scene.daemon.ctl("ps"), scene.daemon.ctl("status"), scene.daemon.ctl("sessions", "show", session)):
        assert shown["evidence"] in place.stdout, place.stdout
    log = (scene.daemon.home / "hermesd" / "logs" / "hermesd.log").read_text("utf-8")
    assert shown["evidence"] in log
    assert "hello" in fake.talk("!history", chat=chat)
    assert scene.worker(chat)["pid"] != worker["pid"]
    assert len(fake.shown(chat=chat, reply_to=turn)) == 1, "told once"
    return took


def _stopped_idle(scene: Scene, chat: str) -> float:
    """Returns the seconds from the stop of the process to its end. Its chat is told nothing."""
    fake = scene.fake
    worker = scene.worker(chat)
    before = len(fake.shown(chat=chat))
    watch = StopWatch()
    os.kill(worker["pid"], signal.SIGSTOP)
    _wait(lambda: all(row["pid"] != worker["pid"] for row in scene.daemon.workers()), "it is ended", PATIENCE)
    took = watch.seconds()
    assert took <= FOUND_SECONDS, f"a stopped worker was found after {took:.2f} s"
    assert len(fake.shown(chat=chat)) == before
    _check_evidence(Path(scene.daemon.json("sessions", "show", scene.session(chat))["evidence"]), worker, turn="none")
    assert "hello" in fake.talk("!history", chat=chat)
    assert len(fake.shown(chat=chat)) == before + 1
    return took


def _stopped_keeper(scene: Scene) -> float:
    """Returns the seconds from the stop of the keeper to the answers of new sessions. Nobody's worker is touched but
    one that is stopped as well: the keeper that is asked to end it does not live to do so.
    """
    before = _who(scene)
    scene.fake.talk("hello", chat=STUCK)
    stuck = scene.worker(STUCK)["pid"]
    keeper = scene.daemon.json("ps")["keeper"]["pid"]
    watch = StopWatch()
    os.kill(keeper, signal.SIGSTOP)
    os.kill(stuck, signal.SIGSTOP)
    # The spare may answer the first; the second needs a keeper that works.
    messages = {chat: scene.fake.say("hello", chat=chat) for chat in ("new-1", "new-2")}
    for chat, message in messages.items():
        scene.fake.final(message, chat=chat, seconds=PATIENCE)
    took = watch.seconds()
    assert took <= KEEPER_SECONDS, f"a stopped keeper was replaced after {took:.2f} s"
    after = _who(scene)
    assert {session: after[session] for session in before} == before, (before, after)
    assert scene.daemon.json("ps")["keeper"]["pid"] != keeper
    assert "hello" in scene.fake.talk("!history", chat=STUCK)
    assert scene.worker(STUCK)["pid"] != stuck
    evidence = list((scene.daemon.home / "hermesd" / "logs" / "hangs").glob(f"keeper-{keeper}-*.txt"))
    assert [("T (stopped by a signal)" in path.read_text("utf-8")) for path in evidence] == [True]
    return took


def _overrun() -> float:
    """Turns that take too long: the worker ends one that listens, hermesd kills one that is busy in C.

    Returns the seconds from its message to the word in the chat of the latter.
    """
    with Scene(ours={"workers": {"turn_timeout": f"{TURN_TIMEOUT}s"}}) as scene:
        scene.start()
        fake = scene.fake
        pids = {}
        for chat in (BUSY, IN_C):
            fake.talk("hello", chat=chat)
            pids[chat] = scene.worker(chat)["pid"]
        watch = StopWatch()
        turns = {BUSY: fake.say("!sleep 600", chat=BUSY), IN_C: fake.say("!regex", chat=IN_C)}
        reason = f"the turn took longer than {TURN_TIMEOUT:g} s"
        assert fake.final(turns[BUSY], chat=BUSY)["text"] == f"The agent failed: {reason}"
        told = fake.final(turns[IN_C], chat=IN_C, seconds=PATIENCE)
        took = watch.seconds()
        assert took <= OVERRUN_SECONDS, f"a turn that took too long was ended after {took:.2f} s"
        assert (told["text"], told["kind"]) == (f"Stopped: {reason}.", "error"), told
        assert "hello" in fake.talk("!history", chat=BUSY)
        assert scene.worker(BUSY)["pid"] == pids[BUSY], "a failed turn keeps its worker"
        assert "hello" in fake.talk("!history", chat=IN_C)
        assert scene.worker(IN_C)["pid"] != pids[IN_C]
        scene.daemon.stop()
        return took


def _check_evidence(path: Path, worker: dict[str, Any], *, turn: str) -> None:
    assert path.name.startswith(f"{worker['worker']}-"), path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text("utf-8")
    wanted = [
        f"pid {worker['pid']}",
        f"session     {worker['session']}",
        f"turn        {turn}",
        "last heard  ",
        "T (stopped by a signal)",
        "waits in   ",
        "syscall",
        "ZMQbg/IO/0",
        "processes below",
        "exit code -9",
        "Python stacks",
        "in run_until_complete",  # the main thread, as it was continued for its dump
    ]
    missing = [one for one in wanted if one not in text]
    assert not missing, (missing, text)


def _wait(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"it did not come to it that {what} within {seconds} s"
        time.sleep(0.02)
