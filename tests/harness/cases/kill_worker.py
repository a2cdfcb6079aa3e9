"""``kill -9`` of a worker that holds five MCP servers, the nastiest there are: nothing of it is left after 2 s."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from harness.census import Family, command, kill
from harness.containment import Ground, grounds
from harness.daemon import turn_runs
from harness.figures import summary
from harness.scene import Scene, npx_everything

GONE_SECONDS = 2.0

ROUNDS_PER_DAEMON = 8
"""hermesd gives up, rightly, when more than 20 workers crash within a minute."""

PROCESSES_OF_NPX = 3  # npm exec, sh, node

CALLERS = 6  # processes of the five servers that connect back: four leaders, a setsid child and a hidden orphan


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    result: dict[str, Any] = {"gone_within_s": GONE_SECONDS}
    for ground in grounds():
        rounds = random.Random(seed)
        gone: list[float] = []
        answered: list[float] = []
        while len(gone) < times:
            few = min(ROUNDS_PER_DAEMON, times - len(gone))
            _rounds(ground, few, rounds, gone, answered)
            say(f"{ground.name}: {len(gone)} of {times} workers killed, nothing left; {summary(gone)}")
        result[ground.name] = {"killed": len(gone), "left": 0, "gone": summary(gone), "next_answer": summary(answered)}
    return result


def _rounds(ground: Ground, times: int, rounds: random.Random, gone: list[float], answered: list[float]) -> None:
    with Scene(ours={"containment": ground.containment}, unprivileged=ground.unprivileged) as scene:
        scene.configure(
            plain=scene.hostile("be_plain"),
            setsid=scene.hostile("leave_a_child"),
            stubborn=scene.hostile("ignore_everything"),
            hidden=scene.hostile("hide"),
            npx=npx_everything(),
        )
        scene.start()
        for number in range(times):
            _kill_one(scene, f"chat-{number}", mid_turn=rounds.random() < 0.5, gone=gone, answered=answered)


def _kill_one(scene: Scene, chat: str, *, mid_turn: bool, gone: list[float], answered: list[float]) -> None:
    fake = scene.fake
    tools = fake.talk("!start", chat=chat)
    wanted = ["plain.echo", "setsid.echo", "stubborn.echo", "hidden.echo", "npx.echo"]
    assert all(name in tools for name in wanted), tools
    calling = scene.roll.wait_alive(CALLERS)
    worker = scene.worker(chat)
    assert len(worker["mcp"]) == len(wanted), worker
    assert worker["processes"] >= CALLERS + 1 + PROCESSES_OF_NPX, worker
    turn = ""
    if mid_turn:
        turn = fake.say("!sleep 60", chat=chat)
        _wait_busy(scene, chat)
    family = Family(scene.daemon.instance, worker["worker"], worker["pid"], calling)
    held = family.living()
    assert len(held) == worker["processes"], [command(one.pid) for one in held]
    kill(worker["pid"])
    gone.append(family.wait_gone(GONE_SECONDS))
    assert not scene.roll.alive()
    if mid_turn:
        told = fake.final(turn, chat=chat)
        assert told["kind"] == "error", told
        assert "killed by SIGKILL" in told["text"], told
    began = time.monotonic()
    history = fake.talk("!history", chat=chat)
    answered.append(time.monotonic() - began)
    assert "user: !start" in history, f"the new worker does not know the conversation: {history!r}"
    after = scene.worker(chat)
    assert after["pid"] != worker["pid"], after
    assert after["restarts"] == 1, after


def _wait_busy(scene: Scene, chat: str) -> None:
    until = time.monotonic() + 10
    while not turn_runs(scene.worker(chat)):
        assert time.monotonic() < until, "the turn did not begin"
