"""Local chats that nobody is attached to for a while, and those whose hermesd goes away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness.running import wait_until
from harness.scene import Scene

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="a keeper proves who it is by its start time in /proc"),
]

LOST = "hermesd was restarted while this was being answered"


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(ours={"adopt_timeout": "10s"}) as made:
        yield made
        made.daemon.__exit__()
        assert not made.daemon.processes()


def outbox(scene: Scene, **which: Any) -> list[dict[str, Any]]:
    """The messages to local chats, oldest first."""
    rows = scene.daemon.json("outbox", "ls")["messages"]
    return [row for row in reversed(rows) if row["platform"] == "local" and which.items() <= row.items()]


def busy(scene: Scene, key: str) -> bool:
    return any(row["session"] == key and row["state"] == "busy" for row in scene.daemon.workers())


def leave_while_asking(scene: Scene, text: str, name: str = "") -> None:
    """A message whose terminal has gone before its answer."""
    done = scene.daemon.ctl("--timeout", "0.5", "chat", *([name] if name else []), input=f"{text}\n")
    assert done.returncode == 9, done


def test_the_word_of_a_lost_turn_is_seen_by_who_attaches_next(scene: Scene) -> None:
    scene.configure_ours(adopt_timeout="0s")
    scene.start()
    leave_while_asking(scene, "!sleep 600")
    wait_until(lambda: busy(scene, "agent:main:local:dm"), what="a running turn")
    scene.daemon.kill()
    scene.daemon.wait_nothing_left(10.0)
    scene.start()
    (row,) = wait_until(lambda: outbox(scene, state="waiting"), what="the word that it is lost")
    assert row["error"] == "cannot show it: nobody is attached to this chat; hermesctl chat shows it"
    assert row["next_try_at"] is None
    assert "waiting" in scene.daemon.ctl("outbox", "ls").stdout
    done = scene.daemon.ctl("chat", input="hello\n")
    assert done.returncode == 0
    assert done.stdout.startswith("You said: hello"), "only the answers to its own lines"
    assert LOST in done.stderr
    assert "/retry" in done.stderr
    assert [row["state"] for row in outbox(scene)] == ["sent", "sent"]


def test_what_came_while_nobody_was_attached_is_shown_in_order_and_once(scene: Scene) -> None:
    scene.start()
    daemon = scene.daemon
    leave_while_asking(scene, "!sleep 1", name="kitchen")
    wait_until(lambda: outbox(scene, chat="kitchen", state="waiting"), what="an answer that waits")
    key = "agent:main:local:dm:kitchen"
    sent = daemon.ctl("send", "--session", key, "--wait", "dinner is ready")
    assert (sent.returncode, "waiting" in sent.stdout) == (8, True)
    assert daemon.json("status")["queues"]["outbox"] == 0, "nothing that hermesd has to do"
    (first, second) = outbox(scene, chat="kitchen")
    done = daemon.ctl("outbox", "retry", str(second["id"]))
    assert (done.returncode, "until somebody looks" in done.stderr) == (1, True)
    assert daemon.ctl("outbox", "show", str(first["id"])).stdout.count("hermesctl chat kitchen shows it") == 1

    other = daemon.ctl("--json", "chat", input="hello\n")
    assert "dinner" not in other.stdout, "another chat"
    events = [json.loads(line) for line in daemon.ctl("--json", "chat", "kitchen", input="hello\n").stdout.splitlines()]
    shown = [event["text"] for event in events if event["kind"] not in ("open", "delta", "status")]
    assert shown[0].startswith("Slept for 1")
    assert shown[1] == "dinner is ready"
    assert shown[2].startswith("You said: hello")
    assert "dinner" not in daemon.ctl("--json", "chat", "kitchen", input="hello\n").stdout


def test_what_waits_is_kept_over_a_restart_of_hermesd_and_shown_by_its_console(scene: Scene) -> None:
    scene.start()
    leave_while_asking(scene, "!sleep 1")
    wait_until(lambda: outbox(scene, state="waiting"), what="an answer that waits")
    scene.daemon.stop()
    done = subprocess.run(
        scene.daemon.command("hermesd", "--console"), env=scene.daemon.env, input="hello\n", text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("You said: hello"), "only the answers to its own lines"
    assert "Slept for 1" in done.stderr
