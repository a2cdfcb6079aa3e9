"""Workers that rest: what comes back with the next message, and that looking on keeps nobody awake."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest
from harness.scene import PROGRAMS, Scene

pytestmark = pytest.mark.slow

CHAT = "c1"
IDLE_SECONDS = 2.0
IN_TIME = IDLE_SECONDS + 3.0


def watched_until_it_rests(scene: Scene) -> float:
    """With ``hermesctl top`` at 1 Hz as the only one who looks; after how many seconds it shows no worker any more."""
    command = scene.daemon.command("hermesctl", "--json", "top", "--interval", "1")
    began = time.monotonic()
    seen = 0
    with subprocess.Popen(command, env=scene.daemon.env, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        try:
            for line in top.stdout:
                workers: list[dict[str, Any]] = json.loads(line)["workers"]
                if not any(worker["session"] == scene.session(CHAT) for worker in workers):
                    assert seen, "it was shown while it was there"
                    return time.monotonic() - began
                seen += 1
                assert time.monotonic() - began < IN_TIME, workers
        finally:
            top.terminate()
    raise AssertionError(f"top ended with {top.returncode}")


def scene_with(agent: str) -> Scene:
    ours = {"agent": agent, "agent_path": [str(PROGRAMS)], "workers": {"idle_timeout": f"{IDLE_SECONDS:g}s"}}
    return Scene(ours=ours).start()


def test_under_the_eyes_of_top_an_idle_worker_rests_and_the_next_has_the_conversation() -> None:
    with scene_with("demo") as scene:
        scene.fake.talk("remember the harbour", chat=CHAT)
        before = scene.worker(CHAT)["pid"]
        watched_until_it_rests(scene)
        assert "user: remember the harbour" in scene.fake.talk("!history", chat=CHAT)
        assert scene.worker(CHAT)["pid"] != before


def test_what_an_agent_keeps_in_its_snapshot_is_there_after_a_rest() -> None:
    with scene_with("remembering:make") as scene:
        first = json.loads(scene.fake.talk("draw", chat=CHAT))
        second = json.loads(scene.fake.talk("draw", chat=CHAT))
        assert (second["restored"], second["drawn"][:1], second["pid"]) == ([], first["drawn"], first["pid"])
        watched_until_it_rests(scene)
        third = json.loads(scene.fake.talk("draw", chat=CHAT))
        assert third["pid"] != second["pid"]
        assert third["restored"] == second["drawn"]
        assert third["drawn"][:2] == second["drawn"]
