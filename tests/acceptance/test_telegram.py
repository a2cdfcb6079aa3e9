"""The installed hermesd with Telegram: people write to an emulated Bot API and read what the bot says there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon
from harness.ports import free_port
from harness.running import running, wait_until
from harness.telegram import errors
from harness.telegram.emulator import PNG, Emulator
from harness.telegram.world import Chat

from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

# Each message stands for itself here; bursts have a test of their own.
AT_ONCE = {"HERMES_TELEGRAM_TEXT_BATCH_DELAY_SECONDS": "0"}
EVERYBODY = {"TELEGRAM_ALLOW_ALL_USERS": "true", **AT_ONCE}
END = "what I can do."  # of what the demo agent says to anything
CURSOR = " \u2589"


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@contextmanager
def hermesd(telegram: Emulator, env: Mapping[str, str] = EVERYBODY, **extra: Any) -> Iterator[Daemon]:
    settings = {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url, **extra}}
    with running({"platforms": {"telegram": settings}}, env=env) as daemon:
        yield daemon


def answer(telegram: Emulator, chat: Chat, message_id: int) -> str:
    """The whole text: what is still being written is shown before."""
    found = telegram.wait(
        lambda: [one.text for one in telegram.answers(chat, message_id) if one.text.endswith(END)],
        what=f"an answer to {message_id}",
    )
    return found[-1]


def platform(daemon: Daemon) -> dict[str, Any]:
    return next(row for row in daemon.ask("status")["platforms"] if row["name"] == "telegram")


def test_a_message_is_answered_in_its_chat_as_a_reply(telegram: Emulator) -> None:
    with hermesd(telegram) as daemon:
        ann = telegram.user("Ann")
        asked = telegram.say("good morning", ann)
        assert "You said: good morning" in answer(telegram, telegram.private(ann), asked)
        assert platform(daemon)["state"] == "online"
        [row] = daemon.workers()
        assert row["session"] == f"agent:main:telegram:dm:{ann.id}"


def test_topics_have_conversations_of_their_own_and_are_answered_in_them(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    forum = telegram.group("Forum", forum=True)
    topics = [telegram.topic(forum), telegram.topic(forum)]
    with hermesd(telegram) as daemon:
        for topic in topics:
            asked = telegram.say(f"in {topic}", ann, forum, thread=topic)
            assert f"[Ann] in {topic}" in answer(telegram, forum, asked)
            assert telegram.answers(forum, asked)[-1].thread == topic
        sessions = {row["session"] for row in daemon.workers()}
        assert sessions == {f"agent:main:telegram:group:{forum.id}:{topic}" for topic in topics}


def test_messages_of_the_hours_in_which_hermesd_was_down_are_answered(telegram: Emulator) -> None:
    users = [telegram.user(f"User {number}") for number in range(3)]
    said = [(users[number % 3], telegram.say(f"number {number}", users[number % 3])) for number in range(30)]
    with hermesd(telegram):
        for user, message_id in said:
            answer(telegram, telegram.private(user), message_id)
        telegram.wait(lambda: telegram.waiting() == 0)
    dropped = [call for call in telegram.calls() if call.arguments.get("drop_pending_updates") == "true"]
    assert not dropped
    assert all(len(telegram.answers(telegram.private(user), message_id)) == 1 for user, message_id in said)


def test_a_hundred_strangers_start_nothing_and_get_nothing(telegram: Emulator) -> None:
    with hermesd(telegram, env={"TELEGRAM_ALLOWED_USERS": "1,2,3"}) as daemon:
        for number in range(100):
            telegram.say("let me in", telegram.user(f"Stranger {number}"))
        telegram.wait(lambda: telegram.waiting() == 0)
        assert daemon.workers() == []
    assert telegram.sent() == []
    assert not telegram.calls("sendMessage")


def test_who_is_on_the_list_is_answered(telegram: Emulator) -> None:
    ann, eve = telegram.user("Ann"), telegram.user("Eve")
    with hermesd(telegram, env={"TELEGRAM_ALLOWED_USERS": str(ann.id), **AT_ONCE}):
        telegram.say("and I?", eve)
        answer(telegram, telegram.private(ann), telegram.say("hello", ann))
    assert telegram.sent(telegram.private(eve)) == []


def test_the_token_comes_out_nowhere(telegram: Emulator) -> None:
    with hermesd(telegram) as daemon:
        ann = telegram.user("Ann")
        telegram.cut("sendMessage")
        telegram.cut("getUpdates")
        answer(telegram, telegram.private(ann), telegram.say("hello", ann))
        told = daemon.ctl("--json", "status").stdout + daemon.ctl("ps").stdout
        for pid in daemon.processes():
            told += Path(f"/proc/{pid}/cmdline").read_text()
        for log in (daemon.home / "hermesd" / "logs").rglob("*"):
            if log.is_file():
                told += log.read_text("utf-8", "replace")
    assert "telegram" in told
    assert telegram.token not in told
    assert telegram.token.partition(":")[2] not in told


def test_a_flood_limit_is_waited_for_and_the_answer_comes_once(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    telegram.fail("sendMessage", errors.retry_after(1), 2)
    with hermesd(telegram):
        asked = telegram.say("hello", ann)
        answer(telegram, telegram.private(ann), asked)
        tries = telegram.calls("sendMessage")
        assert [call.status for call in tries] == [429, 429, 200]
        assert all(later.at - earlier.at >= 0.9 for earlier, later in itertools.pairwise(tries))
    [only] = telegram.answers(telegram.private(ann), asked)
    assert PERHAPS_AGAIN not in only.text


def test_an_answer_whose_confirmation_was_lost_comes_again_with_a_mark(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    telegram.cut("sendMessage", "after")
    with hermesd(telegram):
        asked = telegram.say("hello", ann)
        telegram.wait(lambda: len(telegram.answers(chat, asked)) == 2)
    first, second = telegram.answers(chat, asked)
    mark, _, whole = second.text.partition("\n\n")
    assert (mark, whole.endswith(END)) == (PERHAPS_AGAIN, True)
    # What was cut may be the message that showed the answer being written: its id is not known, so it stays as it was.
    assert whole.startswith(first.text.removesuffix(CURSOR))


def test_the_death_of_a_worker_does_not_touch_the_connection(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    with hermesd(telegram) as daemon:
        for number in range(3):
            answer(telegram, chat, telegram.say(f"number {number}", ann))
            [row] = daemon.workers()
            os.kill(row["pid"], signal.SIGKILL)
            wait_until(lambda pid=row["pid"]: all(other["pid"] != pid for other in daemon.workers()))
        answer(telegram, chat, telegram.say("the last", ann))
    assert len(telegram.calls("getMe")) == 1
    assert len(telegram.calls("deleteWebhook")) == 1


def test_a_question_is_answered_by_a_button_and_a_strangers_press_does_not_count(telegram: Emulator) -> None:
    ann, eve = telegram.user("Ann"), telegram.user("Eve")
    group = telegram.group()
    with hermesd(telegram, env={"TELEGRAM_ALLOWED_USERS": str(ann.id), **AT_ONCE}):
        asked = telegram.say("!ask May I?", ann, group)
        telegram.wait(lambda: [one for one in telegram.answers(group, asked) if one.markup])
        [question] = [one for one in telegram.answers(group, asked) if one.markup]
        refused = telegram.press(eve, group, question.id, "approve")
        assert telegram.wait(lambda: telegram.answered(refused))["alert"]  # type: ignore[index]
        taken = telegram.press(ann, group, question.id, "approve")
        assert not telegram.wait(lambda: telegram.answered(taken))["alert"]  # type: ignore[index]
        final = telegram.wait(lambda: [one for one in telegram.answers(group, asked) if "approve" in one.text][1:])
        assert final


def test_lines_and_albums_are_one_message_and_files_are_fetched(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    with hermesd(telegram, env={"TELEGRAM_ALLOW_ALL_USERS": "true"}) as daemon:
        with telegram.at_once():
            first = telegram.say("one line", ann)
            telegram.say("and another", ann)
        assert "one line\nand another" in answer(telegram, chat, first)
        with telegram.at_once():
            pictures = telegram.album([PNG, PNG + b"2", PNG + b"3"], ann, caption="our cat")
        assert "our cat" in answer(telegram, chat, pictures[0])
        kept = [path for path in (daemon.home / "hermesd" / "media").rglob("image_*") if path.is_file()]
        assert sorted(path.stat().st_size for path in kept) == [len(PNG), len(PNG) + 1, len(PNG) + 1]
    assert not telegram.answers(chat, pictures[1])


def test_one_sees_that_it_works_and_what_it_knows(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    with hermesd(telegram, reactions=True):
        asked = telegram.say("hello", ann)
        answer(telegram, chat, asked)
        telegram.wait(lambda: chat.messages[asked].reaction == "👍")
        signs = [json.loads(call.arguments["reaction"])[0]["emoji"] for call in telegram.calls("setMessageReaction")]
        assert signs == ["👀", "👍"]
        telegram.wait(lambda: chat.typing, what="that somebody writes")
        telegram.wait(
            lambda: {"help", "status", "stop"} <= {command["command"] for command in telegram.commands}, what="the menu"
        )


def test_a_long_answer_comes_in_parts_of_which_none_is_longer_than_telegram_takes(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    with hermesd(telegram):
        asked = telegram.say("😀 word " * 500, ann)  # 4,000 units, and the answer says it all again
        telegram.wait(
            lambda: [one for one in telegram.sent(chat) if one.text.removesuffix("(2/2)").strip().endswith(END)]
        )
        parts = telegram.sent(chat)
        assert len(parts) == 2
        assert sum(part.text.count("😀") for part in parts) == 500
        assert [one.id for one in telegram.answers(chat, asked)] == [parts[0].id]  # reply_to_mode: first
    assert not any(call.status == 400 and "too long" in call.description for call in telegram.calls())


@pytest.mark.slow
def test_another_poller_shows_as_a_conflict_within_a_minute_and_others_stay_up(telegram: Emulator) -> None:
    settings = {
        "telegram": {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url}},
        "api_server": {"enabled": True, "extra": {"port": 0}},
    }
    telegram.server.conflict_rest = 0.1
    over = threading.Event()

    def rival() -> None:
        while not over.is_set():
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{telegram.base_url}{telegram.token}/getUpdates?timeout=5", timeout=10).close()

    with running({"platforms": settings}, env=EVERYBODY) as daemon:
        thread = threading.Thread(target=rival)
        thread.start()
        try:
            wait_until(lambda: platform(daemon)["state"] == "conflict", 60.0)
            others = [one for one in daemon.ask("status")["platforms"] if one["name"] == "api_server"]
            assert others[0]["state"] == "online"
        finally:
            over.set()
            thread.join()


def test_a_webhook_is_served_and_what_waited_is_answered(telegram: Emulator) -> None:
    port = free_port()
    ann = telegram.user("Ann")
    telegram.server.hook.resend = 0.1
    waiting = telegram.say("while nobody was there", ann)
    env = EVERYBODY | {
        "TELEGRAM_WEBHOOK_URL": f"http://127.0.0.1:{port}/telegram", "TELEGRAM_WEBHOOK_PORT": str(port),
        "TELEGRAM_WEBHOOK_SECRET": "a-secret", "TELEGRAM_WEBHOOK_HOST": "127.0.0.1",
    }  # fmt: skip
    with hermesd(telegram, env=env) as daemon:
        answer(telegram, telegram.private(ann), waiting)
        daemon.kill()
        asked = telegram.say("after its death", ann)
        daemon.start()
        assert "after its death" in answer(telegram, telegram.private(ann), asked)
    assert not telegram.calls("getUpdates")
    # It may have died between Telegram's yes and its own note of it.
    _, *again = telegram.answers(telegram.private(ann), waiting)
    assert all(PERHAPS_AGAIN in one.text for one in again)


def test_a_wrong_token_is_told_and_the_others_work(telegram: Emulator) -> None:
    settings = {
        "telegram": {"enabled": True, "token": "123456789:wrong", "extra": {"base_url": telegram.base_url}},
        "api_server": {"enabled": True, "extra": {"port": 0}},
    }
    with running({"platforms": settings}) as daemon:
        wait_until(lambda: "rejected" in platform(daemon)["detail"], 60.0, what="Telegram's answer")
        assert platform(daemon)["state"] != "online"
        others = [one for one in daemon.ask("status")["platforms"] if one["name"] == "api_server"]
        assert others[0]["state"] == "online"


def test_a_second_hermesd_with_the_same_token_is_told_who_has_it_and_takes_over_when_that_is_gone(
    telegram: Emulator, tmp_path: Path
) -> None:
    locks = {**EVERYBODY, "HERMES_GATEWAY_LOCK_DIR": str(tmp_path)}
    ann = telegram.user("Ann")
    with hermesd(telegram, env=locks) as first:
        answer(telegram, telegram.private(ann), telegram.say("hello", ann))
        with hermesd(telegram, env=locks) as second:
            wait_until(lambda: platform(second)["state"] == "conflict", 60.0)
            row = platform(second)
            assert f"hermesd (pid {first.pid}, home {first.home})" in row["detail"]
            assert telegram.token not in row["detail"]
            assert {one["state"] for one in second.json("platforms", "list")["platforms"]} == {"online", "conflict"}
            answer(telegram, telegram.private(ann), telegram.say("still there?", ann))
            assert second.workers() == []
            first.stop()
            assert second.ctl("platforms", "reconnect", "telegram").returncode == 0
            wait_until(lambda: platform(second)["state"] == "online", 60.0, what="the second one has the token")
            answer(telegram, telegram.private(ann), telegram.say("and you?", ann))
            assert len(second.workers()) == 1


def test_the_demo_agent_cannot_see_a_sticker_says_so_and_that_is_not_kept(telegram: Emulator) -> None:
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    with hermesd(telegram) as daemon:
        said = answer(telegram, chat, telegram.sticker(ann))
        assert "[The user sent a sticker" in said
        assert "cannot be seen here" in said
        assert not (daemon.home / "sticker_cache.json").exists()


SEEING = """
class Agent:
    async def turn(self, turn, out):
        return f"{turn.text} {END}"

    async def describe(self, path):
        with open(__file__ + ".looked", "a") as record:
            record.write(path + "\\n")
        return "a cat that waves"


END = "what I can do."


def make(session):
    return Agent()
"""


def test_an_agent_that_can_see_looks_at_a_sticker_once_also_for_others(telegram: Emulator, tmp_path: Path) -> None:
    (tmp_path / "seeing.py").write_text(SEEING, "utf-8")
    ann, ben = telegram.user("Ann"), telegram.user("Ben")
    config = {
        "hermesd": {"agent": "seeing:make", "agent_path": [str(tmp_path)]},
        "platforms": {"telegram": {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url}}},
    }
    with running(config, env=EVERYBODY) as daemon:
        for user in (ann, ben):
            asked = telegram.sticker(user)
            assert "It shows: a cat that waves]" in answer(telegram, telegram.private(user), asked)
        [(known, kept)] = json.loads((daemon.home / "sticker_cache.json").read_text("utf-8")).items()
        assert known
        assert kept["description"] == "a cat that waves"
    assert len((tmp_path / "seeing.py.looked").read_text().splitlines()) == 1
