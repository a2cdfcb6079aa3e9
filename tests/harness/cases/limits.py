"""How many may do what: turns, workers, strangers; and what a session that had to wait or rest notices of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.census import identities, kill
from harness.daemon import turn_runs
from harness.figures import StopWatch, summary
from harness.marks import most_at_once
from harness.scene import PROGRAMS, Scene

PLACE_SECONDS = 2.0
SESSIONS, MAX_TURNS = 12, 4
STRANGERS = 100
MAX_WORKERS, GUESTS = 3, 6


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    chance = random.Random(seed)
    told: list[float] = []
    most = 0
    woken: list[float] = []
    for number in range(times):
        most = max(most, _max_turns(told, chance))
        say(f"round {number + 1}: {SESSIONS} sessions, at most {most} turns at once; told their place {summary(told)}")
        _strangers()
        say(f"round {number + 1}: {STRANGERS} strangers started nothing")
        _mid_turn_deaths()
        say(f"round {number + 1}: a worker killed mid-turn was told of, its successor knows the conversation")
        _eviction(chance)
        say(f"round {number + 1}: never over {MAX_WORKERS} workers for {GUESTS} sessions")
        woken.append(_hibernation())
        say(f"round {number + 1}: idle sessions rest and wake; {summary(woken)}")
    return {
        "rounds": times,
        "sessions": SESSIONS,
        "max_turns": MAX_TURNS,
        "most_at_once": most,
        "answers": SESSIONS * times,
        "told_place": summary(told),
        "strangers": STRANGERS * times,
        "workers_for_strangers": 0,
        "woken": summary(woken),
    }


def _max_turns(told: list[float], chance: random.Random) -> int:
    """Twelve sessions speak at once; four turns may run. None ends before everybody who waits was told so."""
    with Scene() as scene:
        marks, gate = scene.place / "marks", scene.place / "gate"
        scene.configure_ours(
            agent="marking:make",
            agent_path=[str(PROGRAMS)],
            agent_settings={"marks": str(marks), "gate": str(gate)},
            workers={"max_turns": MAX_TURNS},
        )
        scene.start()
        fake = scene.fake
        lengths = {f"chat-{number}": chance.uniform(0.0, 1.0) for number in range(SESSIONS)}
        watches: dict[str, StopWatch] = {}
        said: dict[str, str] = {}
        for chat, length in lengths.items():
            watches[chat] = StopWatch()
            said[chat] = fake.say(f"{length:.3f}", chat=chat)
        for chat in list(said)[MAX_TURNS:]:
            fake.wait_shown("in the line", chat=chat)
            told.append(watches[chat].seconds())
        gate.touch()
        with ThreadPoolExecutor(SESSIONS) as pool:
            answers = list(pool.map(lambda chat: fake.final(said[chat], chat=chat), said))
        assert all(answer["text"].startswith("done") for answer in answers), answers
        waited = 0
        for chat, message in said.items():
            shown = fake.shown(chat=chat, reply_to=message)
            assert sum(one["final"] for one in shown) == 1, shown
            waited += any("in the line" in one["text"] for one in shown)
        assert waited == SESSIONS - MAX_TURNS, f"{waited} were told their place instead of {SESSIONS - MAX_TURNS}"
        assert max(told) <= PLACE_SECONDS, f"a waiter was told its place after {max(told):.2f} s"
        most = most_at_once(marks)
        assert most <= MAX_TURNS, f"{most} turns ran at once, {MAX_TURNS} may"
        return most


def _strangers() -> None:
    """A hundred people whom nobody knows: nothing is started for them and nobody answers."""
    with Scene().start() as scene:
        rows = scene.daemon.wait_forked()
        before = identities(scene.daemon.processes())
        for number in range(STRANGERS):
            scene.fake.say("let me in", chat=f"stranger-{number}", user=f"stranger-{number}", trusted=False)
        # An allowed message takes the same way behind them: when it is answered, theirs have been judged.
        scene.fake.talk("hello", chat="friend")
        workers = scene.daemon.wait_forked()
        assert [row["session"] for row in workers if row["session"]] == [scene.session("friend")], workers
        assert len(workers) == len(rows) + 1, workers
        new = identities(scene.daemon.processes()) - before
        assert len(new) == 1, f"processes were started: {new}"  # the spare that took the place of the friend's worker
        assert [one["chat"] for one in scene.fake.shown()] == ["friend"], scene.fake.shown()


def _mid_turn_deaths() -> None:
    with Scene().start() as scene:
        fake = scene.fake
        fake.talk("remember the harbour", chat="a")
        turn = fake.say("!sleep 600", chat="a")
        _wait(lambda: turn_runs(scene.worker("a")))
        waiting = fake.say("!history", chat="a")
        first = scene.worker("a")["pid"]
        kill(first)
        lost = fake.final(turn, chat="a")
        assert lost["kind"] == "error", lost
        assert "killed by SIGKILL" in lost["text"], lost
        assert "/retry" in lost["text"], lost
        history = fake.final(waiting, chat="a")["text"]
        assert "remember the harbour" in history, history
        assert "!sleep" not in history, history
        row = scene.worker("a")
        assert row["pid"] != first, row
        assert row["restarts"] == 1, row


def _eviction(chance: random.Random) -> None:
    """More sessions than workers may live: the one that rested longest makes room, and knows everything later."""
    with Scene() as scene:
        scene.configure_ours(workers={"max": MAX_WORKERS})
        scene.start()
        order: list[str] = []
        said = dict.fromkeys((f"guest-{number}" for number in range(GUESTS)), 0)
        for chat in [*said, *chance.choices(list(said), k=2 * GUESTS)]:
            answer = scene.fake.talk(f"word {said[chat]}", chat=chat)
            if said[chat]:
                assert f"I remember {said[chat]} answered before it" in answer, (chat, answer)
            said[chat] += 1
            order = [chat, *(other for other in order if other != chat)]
            alive = {row["session"]: row["state"] for row in scene.daemon.workers()}
            resting = {key for key, state in alive.items() if state != "stopping"}
            assert len(alive) <= MAX_WORKERS, alive
            assert resting == {scene.session(chat) for chat in order[: len(resting)]}, (order, alive)


def _hibernation() -> float:
    """Returns how long the first message after the rest took."""
    with Scene() as scene:
        scene.configure_ours(workers={"idle_timeout": "1s"})
        scene.configure(plain=scene.hostile("be_plain"))
        scene.start()
        spare = scene.daemon.wait_forked()[0]["pid"]  # which the session gets: it may rest before it can be asked
        scene.fake.talk("!start", chat="a")
        watch = StopWatch()
        # Looking at it must not keep it awake.
        _wait(lambda: not scene.daemon.workers())
        rested = watch.seconds()
        assert rested < 5.0, f"it hibernated after {rested:.1f} s"
        assert not scene.roll.alive()
        began = time.monotonic()
        history = scene.fake.talk("!history", chat="a")
        took = time.monotonic() - began
        assert "user: !start" in history, history
        assert spare not in scene.daemon.processes()
        return took


def _wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
