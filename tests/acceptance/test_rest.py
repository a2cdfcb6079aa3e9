"""Workers that rest: what comes back with the next message, and that looking on keeps nobody awake."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.scene import PROGRAMS, Scene

pytestmark = pytest.mark.slow

CHAT = "c1"
IDLE_SECONDS = 2.0
GIVE_UP = 60.0  # who is kept awake by being looked at never rests


def watched_until_it_rests(scene: Scene, wake: Callable[[], object]) -> int:
    """With ``hermesctl top`` at 1 Hz as the only one who looks, until it shows no worker any more; the pid that it has
    shown last. ``wake``: says something, should the worker rest already when top begins to look.
    """
    command = scene.daemon.command("hermesctl", "--json", "top", "--interval", "1")
    pid = 0
    with subprocess.Popen(command, env=scene.daemon.env, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        until = time.monotonic() + GIVE_UP
        try:
            for line in top.stdout:
                workers: list[dict[str, Any]] = json.loads(line)["workers"]
                shown = [worker["pid"] for worker in workers if worker["session"] == scene.session(CHAT)]
                if shown:
                    (pid,) = shown
                elif pid:
                    return pid
                else:
                    wake()
                assert time.monotonic() < until, workers
        finally:
            top.terminate()
    raise AssertionError(f"top ended with {top.returncode}")


def scene_with(agent: str) -> Scene:
    ours = {"agent": agent, "agent_path": [str(PROGRAMS)], "workers": {"idle_timeout": f"{IDLE_SECONDS:g}s"}}
    return Scene(ours=ours).start()


def test_under_the_eyes_of_top_an_idle_worker_rests_and_the_next_has_the_conversation() -> None:
    with scene_with("demo") as scene:
        scene.fake.talk("remember the harbour", chat=CHAT)
        before = watched_until_it_rests(scene, lambda: scene.fake.talk("still there?", chat=CHAT))
        assert "user: remember the harbour" in scene.fake.talk("!history", chat=CHAT)
        assert scene.worker(CHAT)["pid"] != before


def test_what_an_agent_keeps_in_its_snapshot_is_there_after_a_rest() -> None:
    with scene_with("remembering:make") as scene:
        drawings: list[dict[str, Any]] = []

        def draw() -> None:
            drawings.append(json.loads(scene.fake.talk("draw", chat=CHAT)))

        draw()
        draw()
        watched_until_it_rests(scene, draw)
        draw()
        *_, last, again = drawings
        assert again["pid"] != last["pid"]
        assert again["restored"] == last["drawn"]
        assert again["drawn"][:-1] == last["drawn"]
        assert len(last["drawn"]) >= 2
