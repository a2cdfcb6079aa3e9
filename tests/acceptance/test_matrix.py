"""The installed hermesd on Matrix, as people with a client see it, at a real Synapse."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from harness.daemon import Daemon
from harness.matrix.person import Event, Person
from harness.matrix.synapse import PASSWORD, Synapse
from harness.running import running, wait_until


@contextmanager
def at(server: Synapse, bot: Person, *allowed: Person, config: Any = None, **env: str) -> Iterator[Daemon]:
    """hermesd with this account; without anything else in ``env`` it logs in by its token."""
    env = {
        "MATRIX_HOMESERVER": server.url,
        "HERMES_MATRIX_TEXT_BATCH_DELAY_SECONDS": "0",
        "MATRIX_ALLOWED_USERS": ",".join(person.user_id for person in allowed),
        **(env or {"MATRIX_ACCESS_TOKEN": bot.token}),
    }
    # However long a machine needs for the next start, nobody's turn is lost by it.
    with running({"hermesd": {"adopt_timeout": "60s"}, **(config or {})}, env=env) as daemon:
        yield daemon


@dataclass(frozen=True, slots=True)
class Scene:
    """One hermesd that several tests talk to, each in rooms of its own."""

    daemon: Daemon
    bot: Person
    anna: Person

    def chat(self) -> str:
        return self.anna.create_room(self.bot.user_id, direct=True)


@pytest.fixture(scope="module")
def scene(synapse: Synapse) -> Iterator[Scene]:
    bot, anna = synapse.person("bot"), synapse.person("anna")
    with at(synapse, bot, anna) as daemon:
        yield Scene(daemon, bot, anna)
    bot.close()
    anna.close()


@pytest.fixture
def people(synapse: Synapse) -> Iterator[Callable[[], Person]]:
    """Makes people who are not on the allow-list."""
    made: list[Person] = []

    def make() -> Person:
        made.append(synapse.person("stranger"))
        return made[-1]

    yield make
    for person in made:
        person.close()


@pytest.fixture
def bot(synapse: Synapse) -> Iterator[Person]:
    person = synapse.person("bot")
    yield person
    person.close()


@pytest.fixture
def anna(synapse: Synapse) -> Iterator[Person]:
    person = synapse.person("anna")
    yield person
    person.close()


def text(event: Event) -> str:
    return str(event["content"]["body"])


def platform(daemon: Daemon) -> dict[str, Any]:
    """Its row."""
    rows: list[dict[str, Any]] = daemon.ask("status")["platforms"]
    return next((row for row in rows if row["name"] == "matrix"), {"state": "unknown", "detail": ""})


def wait_platform(daemon: Daemon, state: str, detail: str = "") -> None:
    """hermesd is up before its connection to a server is, or has failed."""

    def shown() -> bool:
        row = platform(daemon)
        return row["state"] == state and detail in row["detail"]

    wait_until(shown, 60.0, what=f"matrix is {state}")


def test_a_direct_chat_is_answered_and_so_is_a_room_in_a_thread(scene: Scene, people: Callable[[], Person]) -> None:
    bot, anna, ben = scene.bot, scene.anna, people()
    wait_platform(scene.daemon, "online")
    chat = scene.chat()
    asked = anna.say(chat, "hello")
    assert text(anna.wait_answer(chat, asked, bot.user_id)).startswith("You said: hello\n")
    room = anna.create_room(bot.user_id, ben.user_id)
    ben.join(room)
    asked = anna.say(room, f"{bot.user_id}: look here", mention=bot.user_id)
    answer = anna.wait_answer(room, asked, bot.user_id)
    assert text(answer).split("\n")[0].endswith("look here")
    assert answer["content"]["m.relates_to"]["rel_type"] == "m.thread"
    assert answer["content"]["m.relates_to"]["event_id"] == asked
    # In the thread nobody has to be mentioned, and it is one conversation.
    asked = anna.say(room, "and here", thread=asked)
    assert "This is message 2 to this worker" in text(anna.wait_answer(room, asked, bot.user_id))


def test_slash_commands_are_answered_with_a_notice(scene: Scene) -> None:
    chat = scene.chat()
    asked = scene.anna.say(chat, "/status")
    answer = scene.anna.wait_answer(chat, asked, scene.bot.user_id)
    assert answer["content"]["msgtype"] == "m.notice"


@pytest.mark.parametrize(("how", "choice"), [("✅", "approve"), ("❌", "deny"), ("/approve", "approve")])
def test_a_question_is_answered_by_a_reaction_or_by_text(scene: Scene, how: str, choice: str) -> None:
    bot, anna, chat = scene.bot, scene.anna, scene.chat()
    asked = anna.say(chat, "!ask May I?")
    question = anna.wait(
        lambda: next(
            (one for one in anna.messages(chat, bot.user_id) if text(one).endswith("✅ approve · ❌ deny")), None
        )
    )
    if how.startswith("/"):
        anna.say(chat, how)
    else:
        anna.react(chat, question["event_id"], how)
    anna.wait(lambda: [one for one in anna.answers(chat, asked, bot.user_id) if choice in text(one).split("\n")[0]])


def test_a_reaction_counts_before_a_worker_that_was_taken_over_has_spoken(
    synapse: Synapse, bot: Person, anna: Person
) -> None:
    with at(synapse, bot, anna) as daemon:
        chat = anna.create_room(bot.user_id, direct=True)
        asked = anna.say(chat, "!ask May I?")
        question = anna.wait(lambda: [one for one in anna.messages(chat, bot.user_id) if "May I?" in text(one)])[0]
        # Its signs come when hermesd has written down which message asks.
        anna.wait(lambda: signs(anna, question, bot) == ["✅", "❌"])
        (worker,) = daemon.workers()
        os.kill(worker["pid"], signal.SIGSTOP)
        daemon.kill()
        daemon.start()
        anna.react(chat, question["event_id"], "✅")
        told = f"May I?\n\napprove, by {anna.user_id[1:].partition(':')[0]}"
        anna.wait(lambda: [one for one in anna.messages(chat, bot.user_id) if text(one) == told])
        os.kill(worker["pid"], signal.SIGCONT)
        anna.wait(
            lambda: [one for one in anna.answers(chat, asked, bot.user_id) if "approve" in text(one).split("\n")[0]]
        )
        assert [one["pid"] for one in daemon.workers()] == [worker["pid"]]


def signs(person: Person, message: Event, sender: Person) -> list[str]:
    """The reactions of ``sender`` to a message that ``person`` sees."""
    events = [one for events in person.events.values() for one in events if one["sender"] == sender.user_id]
    relations = [one["content"].get("m.relates_to", {}) for one in events if one["type"] == "m.reaction"]
    return [relation["key"] for relation in relations if relation.get("event_id") == message["event_id"]]


def test_a_long_answer_is_shown_while_it_is_written_and_ends_whole(scene: Scene) -> None:
    bot, anna, chat = scene.bot, scene.anna, scene.chat()
    asked = anna.say(chat, "!stream 400")
    first = anna.wait(lambda: anna.answers(chat, asked, bot.user_id))[0]

    def last_edit() -> str:
        edits = [one["content"] for one in anna.events[chat] if "m.new_content" in one.get("content", {})]
        assert all(one["m.relates_to"]["event_id"] == first["event_id"] for one in edits)
        return str(edits[-1]["m.new_content"]["body"]) if edits else text(first)

    whole = [str(number) for number in range(1, 401)]
    anna.wait(lambda: last_edit().split() == whole)
    assert len(anna.messages(chat, bot.user_id)) == 1


def test_lines_that_come_at_once_are_one_message(synapse: Synapse, bot: Person, anna: Person) -> None:
    # Said before hermesd is there: both come in one answer of the server, however slow this machine is.
    chat = anna.create_room(bot.user_id, direct=True)
    anna.say(chat, "one")
    anna.say(chat, "two")
    with at(synapse, bot, anna, HERMES_MATRIX_TEXT_BATCH_DELAY_SECONDS="1.0", MATRIX_ACCESS_TOKEN=bot.token):
        answer = anna.wait(lambda: anna.messages(chat, bot.user_id))[0]
        assert text(answer).startswith("You said: one\ntwo\n")


@pytest.mark.slow
def test_a_hundred_strangers_start_no_worker_and_are_told_nothing(
    synapse: Synapse, scene: Scene, people: Callable[[], Person]
) -> None:
    before = len(scene.daemon.workers())
    rooms = [(stranger := people(), stranger.create_room(scene.bot.user_id, direct=True)) for _ in range(10)]
    for stranger, room in rooms:
        for number in range(3):
            stranger.say(room, f"let me in {number}")
    # The others come into a room of the first one's, where they mention the bot.
    shared = rooms[0][0].create_room(scene.bot.user_id, public=True)
    for _ in range(90):
        with closing(synapse.person("stranger", limited=True)) as stranger:
            stranger.join(shared)
            stranger.say(shared, "let me in", mention=scene.bot.user_id)

    def refused() -> int:
        rows = scene.daemon.json("inbox", "ls", "--state", "refused", "--limit", "1000")["messages"]
        return len(rows)

    wait_until(lambda: refused() == 120, 60.0)
    assert len(scene.daemon.workers()) == before
    rooms[0][0].look()
    assert rooms[0][0].messages(shared, scene.bot.user_id) == []
    for stranger, room in rooms:
        stranger.look()
        assert stranger.messages(room, scene.bot.user_id) == []
        assert scene.bot.user_id not in json.dumps(stranger.receipts.get(room, {}))


def test_the_token_is_in_no_log(scene: Scene) -> None:
    chat = scene.chat()
    asked = scene.anna.say(chat, "a private word")
    scene.anna.wait_answer(chat, asked, scene.bot.user_id)
    logs = [path for path in (scene.daemon.home / "hermesd" / "logs").rglob("*") if path.is_file()]
    assert logs
    for path in logs:
        assert scene.bot.token.encode() not in path.read_bytes(), path


def test_what_was_written_while_hermesd_was_killed_and_down_is_answered_once(
    synapse: Synapse, bot: Person, anna: Person
) -> None:
    with at(synapse, bot, anna) as daemon:
        chats = [anna.create_room(bot.user_id, direct=True) for _ in range(3)]
        said: list[tuple[str, str]] = []

        def write(count: int) -> None:
            for number in range(count):
                chat = chats[number % 3]
                said.append((chat, anna.say(chat, f"message {len(said)}")))

        write(6)
        daemon.kill()
        write(6)
        daemon.start()
        write(3)
        daemon.kill()
        write(3)
        daemon.start()
        write(3)
        for chat, event in said:
            anna.wait_answer(chat, event, bot.user_id, 60.0)
        assert daemon.ctl("outbox", "ls", "--state", "pending").returncode == 0
        anna.look()
        for number, (chat, event) in enumerate(said):
            answers = [text(one) for one in anna.answers(chat, event, bot.user_id)]
            assert len(answers) == 1, answers
            assert f"You said: message {number}\n" in answers[0]


def test_a_login_by_password_and_one_that_is_wrong(synapse: Synapse, bot: Person, anna: Person) -> None:
    login = {"MATRIX_USER_ID": bot.user_id, "MATRIX_PASSWORD": PASSWORD}
    with at(synapse, bot, anna, **login):
        chat = anna.create_room(bot.user_id, direct=True)
        asked = anna.say(chat, "hello")
        anna.wait_answer(chat, asked, bot.user_id)
    with at(synapse, bot, anna, **{**login, "MATRIX_PASSWORD": "wrong"}) as daemon:
        assert "hello" in daemon.ctl("chat", input="hello\n").stdout, "the others are up"
        wait_until(lambda: "Invalid username or password" in platform(daemon)["detail"], 60.0, what="the refusal")
        assert platform(daemon)["state"] != "online"


def test_a_homeserver_that_is_down_keeps_nothing_else_from_working(bot: Person, anna: Person) -> None:
    env = {"MATRIX_HOMESERVER": "http://127.0.0.1:9", "MATRIX_ACCESS_TOKEN": bot.token}
    with running({}, env=env) as daemon:
        wait_platform(daemon, "backing_off")
        assert "hello" in daemon.ctl("chat", input="hello\n").stdout


def test_without_mautrix_the_platform_is_unavailable_and_says_what_to_install(tmp_path: Any) -> None:
    program = (
        "import sys; sys.modules['mautrix'] = None\n"
        "from hermesd.adapters import registry\n"
        "try: registry.make('matrix', {})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(type(registry.make('fake', {})).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    unavailable, fake = done.stdout.splitlines()
    assert unavailable.startswith("Unavailable platform 'matrix' is unavailable")
    assert "pip install 'hermesd[matrix]'" in unavailable
    assert fake == "FakeAdapter"


def test_encryption_is_told_of_by_doctor(
    synapse: Synapse, bot: Person, anna: Person, lacking: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("olm") is None:
        lacking("the libraries of Matrix' encryption are not installed: ./scripts/test installs them (cmake, g++)")
    with at(synapse, bot, anna, MATRIX_ACCESS_TOKEN=bot.token, MATRIX_ENCRYPTION="true") as daemon:
        wait_platform(daemon, "online")
        findings = json.loads(daemon.ctl("--json", "doctor").stdout)["findings"]
        assert any("CVE-2024-45191" in finding["message"] for finding in findings)
        chat = anna.create_room(bot.user_id, direct=True)
        asked = anna.say(chat, "plain rooms go on")
        anna.wait_answer(chat, asked, bot.user_id)
