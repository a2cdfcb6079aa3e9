"""Local chats that nobody is attached to for a while, and those whose hermesd goes away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness.chat import Chat
from harness.daemon import turn_runs
from harness.gate import GATED, Gate
from harness.running import wait_until
from harness.scene import Scene
from harness.terminal import Terminal

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="a keeper proves who it is by its start time in /proc"),
]

KEY = "agent:main:local:dm"
LOST = "hermesd was restarted while this was being answered"


@pytest.fixture
def gate(scene: Scene) -> Gate:
    return Gate(scene.place)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(ours={"adopt_timeout": "10s", **GATED}) as made:
        yield made
        made.daemon.__exit__()
        made.daemon.wait_nothing_left(20.0)


def outbox(scene: Scene, **which: Any) -> list[dict[str, Any]]:
    """The messages to local chats, oldest first."""
    rows = scene.daemon.json("outbox", "ls")["messages"]
    return [row for row in reversed(rows) if row["platform"] == "local" and which.items() <= row.items()]


def busy(scene: Scene, key: str) -> bool:
    return any(row["session"] == key and turn_runs(row) for row in scene.daemon.workers())


def leave_while_asking(scene: Scene, text: str, name: str = "") -> None:
    """A message that is being answered, and its terminal has gone."""
    with Chat(scene.daemon, name) as chat:
        chat.say(text)
        wait_until(lambda: busy(scene, f"{KEY}:{name}" if name else KEY), what="a running turn")
    wait_until(lambda: not attached(scene), what="nobody is attached")


def attached(scene: Scene) -> list[str]:
    """The local chats that terminals look at."""
    platforms = scene.daemon.ask("status")["platforms"]
    return next(list(row["describe"]["attached"]) for row in platforms if row["name"] == "local")


def test_the_word_of_a_lost_turn_is_seen_by_who_attaches_next(scene: Scene) -> None:
    scene.configure_ours(adopt_timeout="0s")
    scene.start()
    leave_while_asking(scene, "!sleep 600")
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
    wait_until(lambda: [row["state"] for row in outbox(scene)] == ["sent", "sent"], what="that is written down")


def test_what_came_while_nobody_was_attached_is_shown_in_order_and_once(scene: Scene, gate: Gate) -> None:
    scene.start()
    daemon = scene.daemon
    leave_while_asking(scene, gate.text, name="kitchen")
    gate.open()
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
    assert shown[0] == gate.ANSWER
    assert shown[1] == "dinner is ready"
    assert shown[2].startswith("You said: hello")
    assert "dinner" not in daemon.ctl("--json", "chat", "kitchen", input="hello\n").stdout


def test_what_waits_is_kept_over_a_restart_of_hermesd_and_shown_by_its_console(scene: Scene, gate: Gate) -> None:
    scene.start()
    leave_while_asking(scene, gate.text)
    gate.open()
    wait_until(lambda: outbox(scene, state="waiting"), what="an answer that waits")
    scene.daemon.stop()
    done = subprocess.run(
        scene.daemon.command("hermesd", "--console"), env=scene.daemon.env, input="hello\n", text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("You said: hello"), "only the answers to its own lines"
    assert gate.ANSWER in done.stderr


# ---- a hermesd that goes away ---------------------------------------------------------------------------------------


class Piped:
    """``hermesctl chat`` whose input stays open."""

    def __init__(self, scene: Scene, *args: str):
        self.process = subprocess.Popen(
            scene.daemon.command("hermesctl", *args, "chat"), env=scene.daemon.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line of stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def told(self, wanted: str) -> None:
        """Read stderr until it has this line."""
        assert self.process.stderr is not None
        seen = []
        while (line := self.process.stderr.readline()) != wanted:
            seen.append(line)
            assert line, seen

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


GONE = "hermesd is gone; waiting up to 20s for it to come back\n"


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_chat_outlives_its_hermesd_with_the_answer_that_was_under_way(scene: Scene, gate: Gate, how: str) -> None:
    scene.start()
    with Piped(scene) as chat:
        chat.say(gate.text)
        wait_until(lambda: busy(scene, KEY), what="a running turn")
        if how == "restart":
            assert scene.daemon.ctl("restart", "--supervisor").returncode == 0
        else:
            scene.daemon.kill()
            scene.start()
        chat.told(GONE)
        gate.open()
        assert chat.line() == f"{gate.ANSWER}\n"
        chat.say("hello")
        assert chat.line().startswith("You said: hello")
        assert chat.line().startswith("This is message 2 to this worker")
        assert chat.end()[0] == 0
    assert scene.daemon.json("status")["workers"]["adopted"] == 1


def test_what_is_said_while_hermesd_is_gone_is_answered_when_it_is_back(scene: Scene) -> None:
    scene.start()
    with Piped(scene) as chat:
        chat.say("!sleep 0.1")
        assert chat.line().startswith("Slept for 0.1")
        scene.daemon.kill()
        chat.told(GONE)
        chat.say("are you there?")
        scene.start()
        assert chat.line().startswith("You said: are you there?")
        assert chat.end()[0] == 0
    inbox = scene.daemon.json("inbox", "ls")["messages"]
    assert [row["text"] for row in inbox] == ["are you there?", "!sleep 0.1"]


def test_a_message_whose_journalling_was_not_heard_of_runs_once(scene: Scene, gate: Gate) -> None:
    """Its line is sent again with the id that the journal knows."""
    scene.start()
    with Piped(scene) as chat:
        chat.say(gate.text)
        wait_until(lambda: busy(scene, KEY), what="a running turn")
        for _ in range(2):
            scene.daemon.kill()
            scene.start()
        gate.open()
        assert chat.line() == f"{gate.ANSWER}\n"
        status, out, _ = chat.end()
    assert (status, out) == (0, "")
    assert len(scene.daemon.json("inbox", "ls")["messages"]) == 1


def test_a_chat_whose_hermesd_does_not_come_back_ends_with_status_7(scene: Scene) -> None:
    scene.configure_ours(adopt_timeout="0s")
    scene.start()
    with Piped(scene) as chat:
        chat.say("!sleep 600")
        wait_until(lambda: busy(scene, KEY), what="a running turn")
        scene.daemon.kill()
        status, out, err = chat.end()
    assert (status, out) == (7, "")
    *_, gone, waiting, error, fix = err.splitlines()
    assert gone == "hermesd is gone; waiting up to 10s for it to come back"
    assert waiting == "1 message without an answer yet"
    assert error.startswith("error: hermesd is dead: ")
    assert fix.startswith("  fix: hermesd --home ")
    scene.daemon.wait_nothing_left(10.0)


def test_an_answer_that_another_terminal_was_shown_is_not_waited_for(scene: Scene, gate: Gate) -> None:
    scene.start()
    with Piped(scene) as chat:
        chat.say(gate.text)
        wait_until(lambda: busy(scene, KEY), what="a running turn")
        chat.process.send_signal(signal.SIGSTOP)
        scene.daemon.kill()
        scene.start()
        gate.open()
        wait_until(lambda: outbox(scene, state="waiting"), what="an answer that waits")
        assert gate.ANSWER in scene.daemon.ctl("chat", input="hello\n").stderr
        chat.process.send_signal(signal.SIGCONT)
        status, _, err = chat.end()
    assert status == 1
    assert "shown elsewhere" in err


# ---- in a terminal --------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(scene: Scene) -> Iterator[Terminal]:
    scene.start()
    with Terminal(scene.daemon.command("hermesctl", "chat"), scene.daemon.env) as made:
        made.expect(f"attached to {KEY}")
        made.expect("> ")
        yield made


def test_ctrl_c_stops_the_turn_and_a_second_one_leaves(scene: Scene, terminal: Terminal) -> None:
    terminal.type("!sleep 600\r")
    terminal.expect("sleeping for 600 s")
    terminal.expect("> ")
    terminal.type("\x03")
    terminal.expect("nterrupted")
    terminal.expect("Stopped\\.")
    terminal.type("hello\r")
    terminal.expect("You said: hello")
    terminal.expect("> ")
    terminal.type("\x03")
    assert terminal.wait() == 130, terminal.seen


def test_ctrl_c_stops_the_turn_that_is_waited_for_after_ctrl_d(scene: Scene, terminal: Terminal) -> None:
    terminal.type("!sleep 600\r")
    terminal.expect("sleeping for 600 s")
    terminal.expect("> ")
    wait_until(terminal.reads, what="a prompt")
    terminal.type("\x04")
    terminal.expect("\r\n")
    terminal.type("\x03")
    terminal.expect("Stopped\\.")
    assert terminal.wait() == 0


def test_a_second_ctrl_c_leaves_a_turn_that_does_not_end(scene: Scene, terminal: Terminal) -> None:
    terminal.type("!sleep 600\r")
    terminal.expect("sleeping for 600 s")
    terminal.expect("> ")
    wait_until(terminal.reads, what="a prompt")
    scene.daemon.signal(signal.SIGSTOP)
    try:
        terminal.type("half a li")
        terminal.expect("half a li")
        terminal.type("\x03")
        terminal.expect("stopping the answer; Ctrl-C again leaves\r\n> half a li")
        terminal.type("\x03")
        terminal.expect("left; what was asked is still worked on")
        assert terminal.wait() == 130
    finally:
        scene.daemon.signal(signal.SIGCONT)


def test_a_terminal_keeps_its_chat_over_a_restart_and_ctrl_d_ends_the_waiting(scene: Scene, terminal: Terminal) -> None:
    terminal.type("!ask May I?\r")
    terminal.expect("May I")
    assert scene.daemon.ctl("restart", "--supervisor").returncode == 0
    terminal.expect("hermesd is gone; waiting")
    terminal.expect(f"attached to {KEY}")
    terminal.expect("> ")
    terminal.type("/approve\r")
    terminal.expect("You chose approve")
    terminal.expect("> ")
    scene.daemon.kill()
    terminal.expect("hermesd is gone; waiting")
    terminal.expect("> ")
    wait_until(terminal.reads, what="a prompt")
    terminal.type("\x04")
    assert terminal.wait() == 7
