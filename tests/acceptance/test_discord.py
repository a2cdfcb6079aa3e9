"""The installed hermesd with a Discord bot, on a Discord of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.daemon import Daemon
from harness.discord.server import DiscordServer
from harness.running import running, wait_until

ANNA = "anna"


def config(server: DiscordServer, **extra: Any) -> dict[str, Any]:
    return {"platforms": {"discord": {"enabled": True, "extra": {**server.extra, **extra}}}}


def environment(server: DiscordServer) -> dict[str, str]:
    return {"DISCORD_BOT_TOKEN": server.world.token, "DISCORD_ALLOWED_USERS": server.user_id(ANNA)}


@pytest.fixture(scope="module")
def server() -> Iterator[DiscordServer]:
    with DiscordServer() as made:
        made.channel("general")
        yield made


@pytest.fixture(scope="module")
def daemon(server: DiscordServer) -> Iterator[Daemon]:
    with running(config(server), env=environment(server)) as made:
        wait_until(lambda: state(made)["state"] == "online", 20.0, what="the bot is online")
        yield made


def state(daemon: Daemon) -> dict[str, Any]:
    return next(one for one in daemon.ask("status")["platforms"] if one["name"] == "discord")


CURSOR = "\u2589"
"""At the end of an answer that is still being written."""


def answer(server: DiscordServer, message: str) -> str:
    """The first part of it, as it stays."""

    def whole() -> str:
        shown = server.answers_to(message)
        return "" if not shown or CURSOR in shown[0]["content"] else str(shown[0]["content"])

    return str(server.wait(whole, what=f"an answer to {message}"))


def test_a_direct_message_is_answered_as_a_reply(daemon: Daemon, server: DiscordServer) -> None:
    assert "You said: good day" in answer(server, server.say(server.direct(ANNA), "good day"))


def test_a_mention_is_answered_in_a_thread_where_no_further_mention_is_needed(
    daemon: Daemon, server: DiscordServer
) -> None:
    first = server.say(server.named("general"), f"{server.mention} begin here")
    server.wait(
        lambda: server.by_bot(first) and "begin here" in server.by_bot(first)[0]["content"],
        what="an answer in the thread",
    )
    assert server.world.channels[first]["name"] == "begin here"
    assert "message 2" in answer(server, server.say(first, "and further"))


def test_a_slash_command_is_answered_in_time_and_in_its_place(daemon: Daemon, server: DiscordServer) -> None:
    command = server.slash(server.direct(ANNA), "help")
    server.wait(lambda: command.message is not None and "/status" in command.message["content"], what="the answer")
    assert command.acknowledged is not None
    assert command.acknowledged < 3.0


def test_a_hundred_strangers_start_no_worker_and_open_no_thread(daemon: Daemon, server: DiscordServer) -> None:
    answer(server, server.say(server.direct(ANNA), "before them"))
    before, threads = len(daemon.json("ps")["workers"]), len(server.calls("POST", "/threads$"))
    said = len(server.by_bot())
    for number in range(100):
        server.say(server.named("general"), f"{server.mention} let me in", user=f"stranger{number}")
    last = server.say(server.direct(ANNA), "after them")
    assert "after them" in answer(server, last)
    refused = ("inbox", "ls", "--state", "refused", "--limit", "500")
    wait_until(lambda: len(daemon.json(*refused)["messages"]) >= 100, what="they are refused")
    assert len(daemon.json("ps")["workers"]) == before
    assert len(server.calls("POST", "/threads$")) == threads
    assert len(server.by_bot()) == said + 1


def test_restarts_of_workers_are_no_reconnects(daemon: Daemon, server: DiscordServer) -> None:
    direct = server.direct(ANNA)
    answer(server, server.say(direct, "hello"))
    before = (server.gateway.identifies, server.gateway.resumes)
    for _ in range(3):
        done = daemon.ctl("restart", f"agent:main:discord:dm:{direct}")
        assert done.returncode == 0, done.stderr
        answer(server, server.say(direct, "hello again"))
    assert (server.gateway.identifies, server.gateway.resumes) == before


def test_the_status_tells_of_a_broken_connection_and_of_its_return(daemon: Daemon, server: DiscordServer) -> None:
    assert state(daemon)["state"] == "online"
    assert time.time() - server.world.calls[0].at < 3600
    server.gateway.refuse_sockets = True
    server.drop(4000)
    wait_until(lambda: state(daemon)["state"] == "backing_off")
    message = server.say(server.direct(ANNA), "while it was broken")
    server.gateway.refuse_sockets = False
    assert "while it was broken" in answer(server, message)
    # Discord gives what was missed first, and then its word that nothing more was.
    wait_until(lambda: state(daemon)["state"] == "online", what="it is online again")


def test_no_secret_leaves_hermesd(daemon: Daemon, server: DiscordServer) -> None:
    shown = [daemon.ctl("--json", "status").stdout, daemon.ctl("ps", "--tree").stdout, daemon.ctl("logs").stdout]
    log = (daemon.home / "hermesd" / "logs").rglob("*")
    shown += [path.read_text("utf-8", "replace") for path in log if path.is_file()]
    assert not any(server.world.token in text for text in shown)


def test_an_intent_that_is_off_is_told_with_what_to_switch_on() -> None:
    with DiscordServer(intents=0) as closed, running(config(closed), env=environment(closed)) as made:
        # hermesd does not wait for other people's services.
        wait_until(lambda: state(made)["state"] in ("unavailable", "refused"), 20.0, what="the refusal")
        found = {one["id"]: one for one in made.json("doctor")["findings"]}["platform.discord"]
        assert "Message Content Intent is off" in found["message"]
        assert "switch on Message Content Intent" in found["fix"]
