"""The conversation: what Anna does, what must come of it, and its transcript as it was on each network."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.daemon import Daemon
from harness.discord.server import DiscordServer
from harness.matrix.synapse import Synapse
from harness.running import TIME, running
from harness.scene import PROGRAMS
from harness.telegram.emulator import PNG, Emulator

from .people import Anna, OnDiscord, OnMatrix, OnTelegram, Shown

SECONDS = 300.0
CALL = '!call time.get_current_time {"timezone": "UTC"}'
END_OF_STORY = "and that was all."
AT_ONCE = "HERMES_{}_TEXT_BATCH_DELAY_SECONDS"


@dataclass(slots=True)
class Said:
    """What one network showed, in lines of Markdown."""

    network: str
    lines: list[str] = field(default_factory=list)
    edits: int = 0  # of the story, while it was written


@dataclass(frozen=True, slots=True)
class Record:
    said: tuple[Said, ...]
    ps: str  # hermesctl ps --tree, while all three wait for Anna's approval


class _Talk(threading.Thread):
    """Anna on one network. ``asked`` is set when the question is there; she answers it after ``looked``."""

    def __init__(self, anna: Anna, looked: threading.Event):
        super().__init__(name=f"Anna on {anna.network}", daemon=True)
        self._anna = anna
        self.said = Said(anna.network)
        self.asked = threading.Event()
        self._looked = looked
        self._known = 0  # messages of the bot that have been written down
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._talk()
        except Exception as error:  # noqa: BLE001 - who joins this thread raises it
            self.failure = error
        finally:
            self.asked.set()

    def _talk(self) -> None:
        anna = self._anna
        self._says("Good morning")
        self._wait(lambda shown: "You said: Good morning" in shown.text and shown.text.endswith("what I can do."))
        self._says("Tell me a story")
        story = self._wait(lambda shown: shown.text.endswith(END_OF_STORY))
        self.said.edits = story.edits
        assert story.edits > 1, f"{anna.network}: the story was not shown while it was written"
        self._says(CALL)
        time_told = self._wait(lambda shown: '"timezone"' in shown.text)
        assert re.search(r'"timezone": "UTC"', time_told.text), time_told
        self._says("!ask May I water the plants?")
        question = self._wait(lambda shown: len(shown.choices) == 2)
        assert set(question.choices) == {"approve", "deny"}, question
        self.asked.set()
        assert self._looked.wait(SECONDS)
        anna.press(question, "approve")
        self.said.lines.append(f"*Anna {anna.how_she_presses}* `approve`")
        self._wait(lambda shown: shown.text.startswith("You chose approve"))
        anna.photo(PNG, "cat.png", "our cat")
        self.said.lines.append("**Anna**: our cat 🖼 *a photo, cat.png*")
        seen = self._wait(lambda shown: "our cat" in shown.text and shown.text.endswith("what I can do."))
        assert "I got your file" in seen.text, seen
        self._says("!file note.txt")
        self._wait(lambda shown: shown.text.startswith("I wrote note.txt"))
        [(name, content)] = [file for shown in anna.shown() for file in shown.files]
        assert name == "note.txt", name
        assert content.startswith(b"Written by the demo agent for session agent:main:"), content

    def _says(self, text: str) -> None:
        self.said.lines.append(f"**Anna**: {text}")
        self._anna.say(text)

    def _wait(self, is_it: Callable[[Shown], bool]) -> Shown:
        """The message that says so; writes it down with those before it."""
        until = time.monotonic() + SECONDS
        while True:
            shown = self._anna.shown()
            for index in range(self._known, len(shown)):
                if is_it(shown[index]):
                    self.said.lines += [_line(one) for one in shown[self._known : index + 1]]
                    self._known = index + 1
                    return shown[index]
            assert time.monotonic() < until, f"{self._anna.network}: it did not come; {shown[self._known :]}"
            time.sleep(0.05)


def _line(shown: Shown) -> str:
    """One message as Markdown. Which day it is does not belong into a file that is written anew."""
    text = "  \n".join(f"> {line}" for line in shown.text.splitlines())
    marks = [f"edited {shown.edits} times while it was written"] if shown.edits > 1 else []
    marks += [f"📎 {name}, {len(content)} bytes" for name, content in shown.files]
    choices = " ".join(f"`{choice}`" for choice in shown.choices)
    told = f" *({', '.join(marks)})*" if marks else ""
    return f"**hermes**:{told}\n{text}" + (f"\n>\n> {choices}" if choices else "")


def talk(place: Path, say: Callable[[str], None]) -> Record:
    """Have the conversation, with a hermesd and servers of its own below ``place``."""
    with contextlib.ExitStack() as stack:
        telegram = stack.enter_context(Emulator())
        discord = stack.enter_context(DiscordServer())
        matrix = OnMatrix(stack.enter_context(Synapse(place / "synapse")))
        stack.callback(matrix.close)
        people: list[Anna] = [OnTelegram(telegram), OnDiscord(discord), matrix]
        env = {name: value for anna in people for name, value in anna.env.items()}
        env |= {AT_ONCE.format(anna.network.upper()): "0" for anna in people}
        config = {
            "hermesd": {"agent": "guide:make", "agent_path": [str(PROGRAMS)], "workers": {"spare": 0}},
            "platforms": {anna.network: {"enabled": True, **anna.settings} for anna in people},
            "mcp_servers": {"time": TIME},
        }
        daemon = stack.enter_context(running(config, env=env))
        _wait_online(daemon, [anna.network for anna in people])
        say("hermesd is online on all three")
        looked = threading.Event()
        talks = [_Talk(anna, looked) for anna in people]
        for one in talks:
            one.start()
        for one in talks:
            one.asked.wait(SECONDS)
        ps = _processes(daemon)
        say(ps)
        waiting = [row for row in daemon.workers() if row["state"] == "waiting"]
        looked.set()
        for one in talks:
            one.join(SECONDS)
        for one in talks:
            if one.failure is not None:
                raise AssertionError(f"{one.said.network}: {one.failure}; {one.said.lines}") from one.failure
            assert not one.is_alive(), one.said
        assert len(waiting) == len(people), f"not all three waited for Anna: {ps}"
        return Record(tuple(one.said for one in talks), ps)


def _processes(daemon: Daemon) -> str:
    """As a person sees them, who asks again when a busy machine had no answer within hermesctl's second."""
    until = time.monotonic() + SECONDS
    while (done := daemon.ctl("ps", "--tree")).returncode != 0 or "agent:main:" not in done.stdout:
        assert time.monotonic() < until, done.stderr
    return done.stdout


def _wait_online(daemon: Daemon, names: list[str]) -> None:
    until = time.monotonic() + SECONDS
    while True:
        states = {row["name"]: row["state"] for row in daemon.ask("platforms.list")["platforms"]}
        if all(states[name] == "online" for name in names):
            return
        assert time.monotonic() < until, json.dumps(states)
        time.sleep(0.1)
