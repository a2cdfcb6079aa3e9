"""Slash commands and the access gate, as the users of a chat platform see them; also while the agent is busy."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from harness.daemon import turn_runs
from harness.figures import StopWatch
from harness.running import TIME, wait_until
from harness.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(servers={"time": TIME}, env={"FAKE_ALLOWED_USERS": "alice,bob"}) as made:
        made.start()
        yield made
        made.daemon.stop()
        made.daemon.wait_nothing_left(2.0)


def busy(scene: Scene, chat: str, text: str = "!sleep 600") -> str:
    """The agent of this chat works on this; the id of the message."""
    message = scene.fake.say(text, chat=chat)
    wait_until(lambda: any(row["session"] == scene.session(chat) and turn_runs(row) for row in scene.daemon.workers()))
    return message


def test_help_lists_every_command(scene: Scene) -> None:
    text = scene.fake.talk("/help", chat="help")
    assert [line.split()[0].rstrip(",") for line in text.splitlines()] == [
        "/new", "/stop", "/status", "/retry", "/approve", "/deny", "/help",
    ]  # fmt: skip
    assert "/reset" in text
    assert "There is no command /nonsense" in scene.fake.talk("/nonsense", chat="help")
    assert scene.session("help") not in {row["session"] for row in scene.daemon.workers()}, "no worker for commands"


@pytest.mark.parametrize("command", ["/new", "/reset"])
def test_new_begins_a_conversation_without_the_old_history(scene: Scene, command: str) -> None:
    chat = f"new{command[1:]}"
    scene.fake.talk("about swans", chat=chat)
    assert "A new conversation has begun" in scene.fake.talk(command, chat=chat)
    assert "no history yet" in scene.fake.talk("!history", chat=chat)


def test_retry_after_new_repeats_nothing_from_before_it(scene: Scene) -> None:
    scene.fake.talk("about swans", chat="forgotten")
    scene.fake.talk("/new", chat="forgotten")
    assert scene.fake.talk("/retry", chat="forgotten") == "There is no message to repeat in this conversation."
    assert "no history yet" in scene.fake.talk("!history", chat="forgotten")


def test_status_answers_while_the_agent_is_busy(scene: Scene) -> None:
    message = busy(scene, "status")
    text = scene.fake.talk("/status", chat="status")
    assert f"session: {scene.session('status')}" in text
    assert "agent: busy" in text
    assert re.search(r"running: running for \d+ s", text)
    scene.fake.say("later", chat="status")
    assert "waiting messages: 1" in scene.fake.talk("/status", chat="status")
    scene.fake.talk("/stop", chat="status")
    scene.fake.final(message, chat="status")


def test_stop_ends_the_turn_and_drops_what_waits(scene: Scene) -> None:
    running = busy(scene, "stop")
    waiting = scene.fake.say("later", chat="stop")
    watch = StopWatch()
    assert "1 waiting message" in scene.fake.talk("/stop", chat="stop")
    assert watch.seconds() < 3.0
    assert "nterrupted" in scene.fake.final(running, chat="stop")["text"]
    assert "nterrupted" in scene.fake.final(waiting, chat="stop")["text"]
    assert scene.fake.talk("/stop", chat="stop") == "Nothing is running."


def test_new_answers_while_the_agent_is_busy_and_ends_its_turn(scene: Scene) -> None:
    running = busy(scene, "busy-new")
    assert "A new conversation has begun" in scene.fake.talk("/new", chat="busy-new")
    assert "nterrupted" in scene.fake.final(running, chat="busy-new")["text"]
    assert "no history yet" in scene.fake.talk("!history", chat="busy-new")


def test_retry_runs_the_last_message_again_in_place_of_its_first_answer(scene: Scene) -> None:
    fake = scene.fake
    assert fake.talk("/retry", chat="retry") == "There is no message to repeat in this conversation."
    fake.talk("first", chat="retry")
    fake.talk("second", chat="retry")
    assert fake.talk("/retry", chat="retry").startswith("You said: second\nThis is message 3 to this worker")
    assert fake.talk("!history", chat="retry").count("user: second") == 1


def test_retry_runs_a_message_that_died_with_its_worker(scene: Scene) -> None:
    assert "/retry" in scene.fake.talk("!crash", chat="crash")
    assert "has died (exit status 3)" in scene.fake.talk("/retry", chat="crash")
    assert scene.fake.talk("hello", chat="crash").startswith("You said: hello")


def test_retry_of_what_still_runs_says_so(scene: Scene) -> None:
    busy(scene, "still")
    assert "still being answered" in scene.fake.talk("/retry", chat="still")
    assert scene.fake.talk("/stop", chat="still") == "Stopped."


@pytest.mark.parametrize(("command", "answer"), [("/approve", "You chose approve."), ("/deny", "You chose deny.")])
def test_a_question_is_answered_by_a_command(scene: Scene, command: str, answer: str) -> None:
    chat = f"ask{command[1:]}"
    asked = scene.fake.say("!ask May I?", chat=chat)
    scene.fake.wait_shown("May I?", chat=chat)
    assert scene.fake.talk(command, chat=chat).startswith("Answered: ")
    assert scene.fake.final(asked, chat=chat)["text"] == answer
    assert scene.fake.talk(command, chat=chat) == "Nothing waits for an answer."


def test_strangers_are_refused_before_a_worker_exists_and_allowed_users_are_not(scene: Scene) -> None:
    fake, before = scene.fake, len(scene.daemon.processes())
    for number in range(20):
        fake.say("let me in", chat=f"stranger{number}", user=f"stranger{number}", trusted=False)
    message = fake.say("hello", chat="alice", user="alice", trusted=False)
    assert fake.final(message, chat="alice")["text"].startswith("You said: hello")
    sessions = {row["session"] for row in scene.daemon.workers()}
    assert scene.session("alice") in sessions
    assert not [session for session in sessions if "stranger" in session]
    assert len(scene.daemon.processes()) <= before + 2
    assert not [message for message in fake.shown() if "stranger" in message["chat"]]
    fake.say("/help", chat="stranger0", user="stranger0", trusted=False)
    fake.talk("hello again", chat="alice")
    assert not fake.shown(chat="stranger0")


def test_a_path_is_no_command(scene: Scene) -> None:
    assert scene.fake.talk("/etc/passwd", chat="path").startswith("You said: /etc/passwd")
