"""From a message in a chat to its answer there, with hermes-agent's AIAgent as the agent, on each platform.

Beside it the same AIAgent asked directly, in a process without a chat: what is between the two is what the platform's
server and hermesd add. On Matrix also hermes-agent's own gateway, on the same server with the same model. Both wait a
while for a burst's next line by default: that is counted in a row of its own, the others are without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.aimock import AiMock, aimock
from harness.daemon import Daemon
from harness.discord.server import DiscordServer
from harness.hermes.environment import PYTHON
from harness.hermes.scene import MODEL, why_not
from harness.matrix.person import Person
from harness.matrix.synapse import Synapse
from harness.running import running
from harness.telegram.emulator import Emulator

from . import hermes_gateway, place
from .effort import Effort, Say
from .row import Row, Series

ANSWER = "As you say."
FIXTURE = {"match": {}, "response": {"content": ANSWER}}

TEXTS = ("what do you think?", "and this?", "go on")

FIRST_SECONDS = 120.0
"""For the first answer, which makes the agent."""

PROGRAMS = Path(__file__).parents[1] / "programs"

WINDOW = "TEXT_BATCH_DELAY_SECONDS"
"""The end of the variable, hermes-agent's own, for how long more lines are waited for."""

Ask = Callable[[str], float]
"""Says something and returns the milliseconds until its answer is there."""


def measure(effort: Effort, say: Say) -> list[Row]:
    if reason := why_not():
        raise RuntimeError(reason)
    with place.temporary() as directory, aimock(FIXTURE) as endpoint:
        alone = Series("the same AIAgent asked directly", _alone(directory, endpoint, effort))
        say(f"the AIAgent alone: {alone.median:.1f} ms")
        rows = []
        for name in effort.chats:
            if name == "matrix":
                rows += _matrix(directory, endpoint, alone, effort, say)
                continue
            with CHATS[name](endpoint) as ask:
                ours = Series(f"hermesd, {name}", _values(ask, effort))
            say(f"{name}: {ours.median:.1f} ms")
            rows.append(Row("latency", f"{name}: a message to its answer, median", "ms", ours, (alone,)))
        return rows


def _matrix(directory: Path, endpoint: AiMock, alone: Series, effort: Effort, say: Say) -> list[Row]:
    rows = []
    with Synapse(directory / "synapse") as server:
        for window in effort.windows:
            title = "the same with the wait for more lines" if window else "a message to its answer"
            with _on_matrix(server, endpoint, window=window) as ask:
                ours = Series("hermesd, matrix", _values(ask, effort))
            home = directory / f"gateway-{'with' if window else 'without'}-window"
            with _gateway_on_matrix(server, endpoint, home, window=window) as ask:
                theirs = Series("hermes-agent's gateway", _values(ask, effort))
            baselines = (theirs,) if window else (theirs, alone)
            told = ", ".join(f"{one.name} {one.median:.1f} ms" for one in (ours, *baselines))
            say(f"matrix{', with the window' if window else ''}: {told}")
            rows.append(Row("latency", f"matrix: {title}, median", "ms", ours, baselines))
    return rows


def _values(ask: Ask, effort: Effort) -> list[float]:
    ask("hello")  # makes the agent
    return [
        statistics.median(ask(TEXTS[number % len(TEXTS)]) for number in range(effort.messages))
        for _ in range(effort.runs)
    ]


def _alone(directory: Path, endpoint: AiMock, effort: Effort) -> list[float]:
    home = directory / "alone"
    home.mkdir()
    _configure(home, endpoint)
    done = subprocess.run(
        [str(PYTHON), str(PROGRAMS / "aiagent_alone.py"), str(effort.runs), str(effort.messages)],
        env=_environment(home), capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the AIAgent alone failed: {done.stderr[-2000:]}")
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


def _configure(home: Path, endpoint: AiMock) -> None:
    # JSON is YAML too.
    (home / "config.yaml").write_text(json.dumps({"model": {**MODEL, "base_url": endpoint.url}}))


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HERMES_HOME": str(home), "HOME": str(home)}


@contextlib.contextmanager
def _hermesd(endpoint: AiMock, env: Mapping[str, str], **platforms: Any) -> Iterator[Daemon]:
    config = {
        "hermesd": {"agent": "hermes", "python": str(PYTHON), "workers": {"spare": 0}},
        "model": {**MODEL, "base_url": endpoint.url},
        "platforms": platforms,
    }
    with running(config, env=env) as daemon:
        yield daemon


@contextlib.contextmanager
def _telegram(endpoint: AiMock) -> Iterator[Ask]:
    with Emulator() as telegram:
        settings = {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url}}
        env = {"TELEGRAM_ALLOW_ALL_USERS": "true", f"HERMES_TELEGRAM_{WINDOW}": "0"}
        with _hermesd(endpoint, env, telegram=settings):
            ann = telegram.user("Ann")
            chat = telegram.private(ann)

            def ask(text: str) -> float:
                began = time.monotonic()
                message = telegram.say(text, ann)
                telegram.wait(
                    lambda: [one for one in telegram.answers(chat, message) if one.text == ANSWER], FIRST_SECONDS
                )
                return (time.monotonic() - began) * 1000

            yield ask


@contextlib.contextmanager
def _discord(endpoint: AiMock) -> Iterator[Ask]:
    with DiscordServer() as server:
        settings = {"enabled": True, "token": server.world.token, "extra": server.extra}
        env = {"DISCORD_ALLOWED_USERS": server.user_id("anna"), f"HERMES_DISCORD_{WINDOW}": "0"}
        channel = server.direct("anna")
        with _hermesd(endpoint, env, discord=settings):
            server.wait_connected()

            def ask(text: str) -> float:
                began = time.monotonic()
                message = server.say(channel, text)
                server.wait(
                    lambda: [one for one in server.answers_to(message) if one["content"] == ANSWER], FIRST_SECONDS
                )
                return (time.monotonic() - began) * 1000

            yield ask


CHATS = {"telegram": _telegram, "discord": _discord}


@contextlib.contextmanager
def _on_matrix(server: Synapse, endpoint: AiMock, *, window: bool) -> Iterator[Ask]:
    with _two_persons(server) as (anna, bot), _hermesd(endpoint, _matrix_environment(server, anna, bot, window=window)):
        yield _asking(anna, bot)


@contextlib.contextmanager
def _gateway_on_matrix(server: Synapse, endpoint: AiMock, home: Path, *, window: bool) -> Iterator[Ask]:
    home.mkdir()
    _configure(home, endpoint)
    with _two_persons(server) as (anna, bot):
        chat = _matrix_environment(server, anna, bot, window=window)
        with hermes_gateway.running(home, {**_environment(home), **chat, "MATRIX_E2EE_MODE": "off"}):
            yield _asking(anna, bot)


@contextlib.contextmanager
def _two_persons(server: Synapse) -> Iterator[tuple[Person, Person]]:
    with contextlib.closing(server.person("bot")) as bot, contextlib.closing(server.person("anna")) as anna:
        yield anna, bot


def _matrix_environment(server: Synapse, anna: Person, bot: Person, *, window: bool) -> dict[str, str]:
    """The names are hermes-agent's, which hermesd takes over."""
    return {
        "MATRIX_HOMESERVER": server.url, "MATRIX_ACCESS_TOKEN": bot.token, "MATRIX_ALLOWED_USERS": anna.user_id,
        **({} if window else {f"HERMES_MATRIX_{WINDOW}": "0"}),
    }  # fmt: skip


def _asking(anna: Person, bot: Person) -> Ask:
    room = anna.create_room(bot.user_id, direct=True)

    def ask(text: str) -> float:
        anna.look()
        seen = len(anna.events.get(room, ()))
        began = time.monotonic()
        anna.say(room, text)
        anna.wait(
            lambda: [
                one for one in anna.events.get(room, ())[seen:]
                if one["sender"] == bot.user_id and ANSWER in (_body(one), _body(one, "m.new_content"))
            ],
            FIRST_SECONDS,
        )  # fmt: skip
        return (time.monotonic() - began) * 1000

    # Who is invited has to come into the room first.
    anna.wait(
        lambda: any(
            one["type"] == "m.room.member" and one.get("state_key") == bot.user_id
            and one["content"].get("membership") == "join"
            for one in anna.events.get(room, ())
        ),
        FIRST_SECONDS,
    )  # fmt: skip
    return ask


def _body(event: Mapping[str, Any], part: str = "") -> str:
    content = event.get("content", {})
    return str((content.get(part, {}) if part else content).get("body", "")).strip()
