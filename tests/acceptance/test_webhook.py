"""Platform ``webhook`` of an installed hermesd: real posts, signed as GitHub signs, answered in a chat elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import turn_runs
from harness.ports import free_port
from harness.running import wait_until
from harness.scene import Scene
from harness.telegram.emulator import Emulator
from harness.telegram.world import Chat, Message

from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

pytestmark = pytest.mark.timeout(300)

CURSOR = " \u2589"
SECRET = "It's a Secret to Everybody"

ROUTES = {
    "review": {
        "events": ["pull_request"],
        "secret": SECRET,
        "prompt": "{action} #{number}: {pull_request.title}",
        "deliver": "fake",
        "deliver_extra": {"chat_id": "ops"},
    },
    "slow": {"secret": SECRET, "prompt": "!sleep {seconds}", "deliver": "fake", "deliver_extra": {"chat_id": "ops"}},
    "notify": {"secret": SECRET, "prompt": "{text}", "deliver": "fake", "deliver_only": True},
    "asks": {"secret": SECRET, "prompt": "!ask May I?", "deliver": "fake", "deliver_extra": {"chat_id": "ops"}},
    "logged": {"secret": SECRET, "prompt": "log {word}"},
}


IN_TOPIC = "builds"


class Site:
    """A hermesd with routes, GitHub, and what answers go to: the fake platform, and a forum of an emulated Telegram."""

    def __init__(self, scene: Scene, port: int):
        self.scene = scene
        self.port = port

    def github(self, route: str, payload: Any, delivery: str, event: str = "pull_request", secret: str = SECRET) -> Any:
        """Status and body of the answer to one delivery."""
        body = json.dumps(payload).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/webhooks/{route}", body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def told(self, text: str, chat: str = "ops") -> dict[str, Any]:
        return self.scene.fake.wait_shown(text, chat=chat, seconds=60.0)

    def times(self, text: str, chat: str = "ops") -> int:
        return sum(text in message["text"] for message in self.scene.fake.shown(chat=chat))

    def again(self) -> None:
        """kill -9, and the next life of hermesd."""
        self.scene.daemon.kill()
        self.scene.fake.close()
        self.scene.start()


@pytest.fixture(scope="module")
def telegram() -> Iterator[Emulator]:
    with Emulator() as telegram:
        yield telegram


@pytest.fixture(scope="module")
def forum(telegram: Emulator) -> Chat:
    """With one topic."""
    forum = telegram.group("Builds", forum=True)
    telegram.topic(forum)
    return forum


@pytest.fixture(scope="module")
def site(telegram: Emulator, forum: Chat) -> Iterator[Site]:
    port = free_port()
    # Where a platform did not know again what it had when hermesd died, the answer would come once more, with a mark.
    with Scene(fake={"exact_resends": True}, ours={"adopt_timeout": "60s"}) as scene:
        place = {"chat_id": str(forum.id), "message_thread_id": next(iter(forum.topics))}
        routes = ROUTES | {
            IN_TOPIC: {"secret": SECRET, "prompt": "build {n}", "deliver": "telegram", "deliver_extra": place}
        }
        path = scene.daemon.home / "config.yaml"
        config = json.loads(path.read_text("utf-8"))
        config["platforms"] |= {
            "webhook": {"enabled": True, "extra": {"port": port, "routes": routes}},
            "telegram": {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url}},
        }
        config["platforms"]["fake"]["home_channel"] = {"platform": "fake", "chat_id": "home", "name": "Home"}
        path.write_text(json.dumps(config), "utf-8")
        scene.start()
        for chat in ("ops", "home"):
            scene.fake.talk("hello", chat=chat)
        yield Site(scene, port)


def test_an_event_is_answered_in_a_chat_of_another_platform(site: Site) -> None:
    event = {"action": "opened", "number": 7, "pull_request": {"title": "Mend the gate"}}
    status, said = site.github("review", event, "72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert (status, said["status"], said["event"]) == (202, "accepted", "pull_request")
    shown = site.told("opened #7: Mend the gate")
    assert (shown["chat"], shown["reply_to"]) == ("ops", "")
    (row,) = [row for row in site.scene.daemon.json("inbox", "ls")["messages"] if row["platform"] == "webhook"]
    assert (row["state"], row["session"].startswith("agent:main:webhook:dm:review:72d3162e")) == ("answered", True)
    status, said = site.github("review", event, "72d3162e-cc78-11e3-81ab-4c9367dc0958")
    assert (status, said["status"]) == (200, "duplicate")
    assert site.github("review", event, "other", event="push")[1]["status"] == "ignored"
    assert site.github("review", event, "other", secret="guessed")[0] == 401


def test_an_event_is_answered_in_a_topic_of_telegrams_and_is_marked_where_it_comes_twice(
    site: Site, telegram: Emulator, forum: Chat
) -> None:
    def answers() -> list[Message]:
        return [message for message in telegram.sent(forum) if message.text]

    assert site.github(IN_TOPIC, {"n": 1}, "t1")[0] == 202
    telegram.wait(answers)
    telegram.cut("sendMessage", "after")
    assert site.github(IN_TOPIC, {"n": 2}, "t2")[0] == 202
    first, second, again = telegram.wait(lambda: answers() if len(answers()) > 2 else None)
    mark, _, whole = again.text.partition("\n\n")
    assert (mark, whole.startswith("You said: build 2\n")) == (PERHAPS_AGAIN, True)
    # What was cut may be the message that showed the answer being written, whose id nobody knows: it shows as much as
    # had been written, and keeps its cursor.
    assert whole.startswith(second.text.removesuffix(CURSOR))
    assert "You said: build 1\n" in first.text
    [topic] = forum.topics
    assert {(message.thread, message.reply_to) for message in (first, second, again)} == {(topic, None)}


def test_a_notification_goes_to_the_home_channel_and_no_agent_sees_it(site: Site) -> None:
    workers = len(site.scene.daemon.workers())
    assert site.github("notify", {"text": "disk 91 % full"}, "n1")[0] == 202
    assert site.told("disk 91 % full", chat="home")["text"] == "disk 91 % full"
    assert len(site.scene.daemon.workers()) <= workers


def test_a_question_of_its_agent_is_refused_at_once(site: Site) -> None:
    assert site.github("asks", {}, "q1")[0] == 202
    site.told("Nobody answered in time.")
    assert site.times("May I?") == 0


def test_without_a_chat_the_answer_is_in_the_log(site: Site) -> None:
    assert site.github("logged", {"word": "heron"}, "l1")[0] == 202

    def logged() -> bool:
        text = site.scene.daemon.ctl("logs").stdout
        return any("to event l1 of route logged" in line and "heron" in line for line in text.splitlines())

    wait_until(logged, 60.0, what="the answer in the log")


def test_a_killed_hermesd_loses_no_event_and_knows_each_delivery(site: Site) -> None:
    """One runs, one has just been accepted, and one is posted while hermesd is away."""
    assert site.github("slow", {"seconds": 3}, "k1")[0] == 202
    wait_until(lambda: any(map(turn_runs, site.scene.daemon.workers())), 60.0, what="the turn runs")
    event = {"action": "closed", "number": 8, "pull_request": {"title": "Away"}}
    assert site.github("review", event, "k2")[0] == 202
    site.again()
    assert site.github("review", event, "k2")[1]["status"] == "duplicate"
    assert site.github("slow", {"seconds": 3}, "k1")[1]["status"] == "duplicate"
    site.told("closed #8: Away")
    site.told("Slept for 3 s.")
    assert (site.times("closed #8: Away"), site.times("Slept for 3 s.")) == (1, 1)


def test_posts_over_three_deaths_are_each_answered_once(site: Site) -> None:
    """A sender that tries again until it has heard 2xx, as GitLab and most others do."""
    done = threading.Event()
    refused: list[str] = []

    def send() -> None:
        for number in range(9):
            event = {"action": "pushed", "number": number, "pull_request": {"title": "over deaths"}}
            for _ in range(600):
                try:
                    status, said = site.github("review", event, f"death-{number}")
                except (OSError, http.client.HTTPException, ValueError):
                    status, said = 0, {}
                if status in (200, 202):
                    break
                if status == 429:
                    refused.append(said["error"])
                done.wait(0.1)
        done.set()

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(3):
        done.wait(0.5)
        site.again()
    sender.join(100)
    assert not sender.is_alive()
    assert not refused
    for number in range(9):
        site.told(f"pushed #{number}: over deaths")
    assert [site.times(f"pushed #{number}: over deaths") for number in range(9)] == [1] * 9


class TestHermesctl:
    def test_subscribe_test_list_and_remove(self, site: Site) -> None:
        ctl = site.scene.daemon.ctl
        made = ctl("webhook", "subscribe", "Alerts", "--events", "alert, ping", "--prompt", "alert: {message}",
                   "--deliver", "fake", "--deliver-chat-id", "ops")  # fmt: skip
        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout.startswith("made route alerts\n")
        assert f"http://127.0.0.1:{site.port}/webhooks/alerts" in made.stdout
        tried = ctl("webhook", "test", "alerts", "--payload", '{"message": "the heron is back"}')
        assert (tried.returncode, tried.stdout.split(": ")[1].split()[0]) == (0, "202"), tried.stdout + tried.stderr
        site.told("alert: the heron is back")
        listed = site.scene.daemon.json("webhook", "list")
        (row,) = [row for row in listed["routes"] if row["name"] == "alerts"]
        assert (row["events"], row["platform"], row["chat"]) == (["alert", "ping"], "fake", "ops")
        assert row["counts"] == {"accepted": 1}
        assert row["source"] == "webhook_subscriptions.json"
        secret = next(line.split()[-1] for line in made.stdout.splitlines() if "Secret" in line)
        assert secret not in json.dumps(listed)
        table = ctl("webhook", "list")
        assert table.returncode == 0, table.stderr
        assert {line.split()[0] for line in table.stdout.splitlines()[1:]} == {*ROUTES, IN_TOPIC, "alerts"}
        changed = ctl("webhook", "subscribe", "alerts", "--events", "")
        assert changed.stdout.startswith("changed route alerts\n")
        assert secret in changed.stdout
        removed = ctl("webhook", "remove", "alerts")
        assert (removed.returncode, removed.stdout) == (0, "removed route alerts\n")
        assert site.github("alerts", {}, "a1")[0] == 404

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (("remove", "review"), 1, "is in config.yaml"),
            (("remove", "alert"), 1, "there is no route"),
            (("subscribe", "review"), 1, "is in config.yaml"),
            (("subscribe", "a/b"), 1, "cannot call a route"),
            (("subscribe", "x", "--deliver-only"), 1, "needs a platform"),
            (("subscribe", "x", "--signature", "md5"), 1, "use one of"),
            (("test", "reviw"), 1, "did you mean review?"),
            (("test", "review", "--payload", "{"), 2, "not JSON"),
            (("subscribe",), 2, "Missing argument"),
        ],
    )
    def test_what_cannot_be_is_said(self, site: Site, words: tuple[str, ...], status: int, said: str) -> None:
        done = site.scene.daemon.ctl("webhook", *words)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr

    def test_a_route_to_nowhere_is_told_and_takes_nothing(self, site: Site) -> None:
        made = site.scene.daemon.ctl("webhook", "subscribe", "lost", "--deliver", "discord", "--deliver-chat-id", "1")
        assert (made.returncode, "it takes no events yet" in made.stderr) == (0, True)
        tried = site.scene.daemon.ctl("webhook", "test", "lost")
        assert (tried.returncode, ": 503 " in tried.stdout) == (1, True)
        listed = site.scene.daemon.ctl("webhook", "list")
        assert (listed.returncode, "'discord' is not configured" in listed.stderr) == (8, True)
        assert "route lost" in site.scene.daemon.ctl("doctor").stdout
        assert site.scene.daemon.ctl("webhook", "remove", "lost").returncode == 0

    def test_a_broken_file_changes_nothing_and_is_told(self, site: Site) -> None:
        daemon = site.scene.daemon
        assert daemon.ctl("webhook", "subscribe", "kept", "--secret", SECRET, "--prompt", "kept {n}").returncode == 0
        file = daemon.home / "webhook_subscriptions.json"
        whole = file.read_text("utf-8")
        file.write_text(whole[:-20], "utf-8")
        assert site.github("kept", {"n": 1}, "b1")[0] == 202
        status = daemon.ask("status")
        assert status["state"] == "degraded"
        assert any("broken JSON" in warning["message"] for warning in status["warnings"])
        assert "broken JSON" in daemon.ctl("webhook", "list").stderr
        refused = daemon.ctl("webhook", "subscribe", "more")
        assert (refused.returncode, "broken JSON" in refused.stderr) == (1, True)
        file.write_text(whole, "utf-8")
        assert not any("broken JSON" in warning["message"] for warning in daemon.ask("status")["warnings"])
        assert daemon.ctl("webhook", "remove", "kept").returncode == 0


def test_a_home_of_hermes_agent_works_as_it_is(tmp_path: Path) -> None:
    """``.env``, settings beside ``extra``, and a file of subscriptions, as hermes-agent writes them."""
    port = free_port()
    with Scene() as scene:
        home = scene.daemon.home
        path = home / "config.yaml"
        config = json.loads(path.read_text("utf-8"))
        config["platforms"]["webhook"] = {
            "rate_limit": 60,
            "routes": {
                "of-config": {"events": ["push"], "prompt": "config {ref}", "skills": ["review"], "deliver": "log"}
            },
        }
        path.write_text(json.dumps(config), "utf-8")
        (home / ".env").write_text(f"WEBHOOK_ENABLED=true\nWEBHOOK_PORT={port}\nWEBHOOK_SECRET={SECRET}\n", "utf-8")
        subscription = {
            "description": "Agent-created subscription: of-file",
            "events": [],
            "secret": "own-secret",
            "prompt": "file {ref}",
            "skills": [],
            "deliver": "fake",
            "profile": "default",
            "created_at": "2026-04-10T09:00:00Z",
            "deliver_extra": {"chat_id": "ops"},
        }
        (home / "webhook_subscriptions.json").write_text(json.dumps({"of-file": subscription}, indent=2), "utf-8")
        scene.start()
        scene.fake.talk("hello", chat="ops")
        site = Site(scene, port)
        assert site.github("of-config", {"ref": "main"}, "1", event="push")[0] == 202
        assert site.github("of-file", {"ref": "main"}, "1", event="push", secret="own-secret")[0] == 202
        site.told("file main")
        assert "skills has no effect" in scene.daemon.ctl("doctor").stdout
        scene.daemon.signal(signal.SIGTERM)
        assert scene.daemon.wait_dead(30)
