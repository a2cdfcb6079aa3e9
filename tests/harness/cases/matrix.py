"""Matrix: hermesd killed while people write in several rooms, and they write while it is down: all answered once."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.daemon import Daemon
from harness.figures import summary
from harness.matrix.person import Event, Person
from harness.matrix.synapse import Synapse
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

ROOMS = 4
BURST = 6  # messages of one room between two kills, at most
ANSWER_SECONDS = 120.0


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``times``: how often hermesd is killed, over all its lives on one home."""
    place = Path(tempfile.mkdtemp(prefix="hd-"))
    try:
        with Synapse(place / "synapse") as server:
            life = _Lives(server, place / "home", random.Random(seed))
            with life.daemon:
                for number in range(times):
                    life.one()
                    say(f"hermesd killed {number + 1} of {times} times, {len(life.said)} messages written")
                return life.check() | {"killed": times, "start": summary(life.started)}
    finally:
        if not os.environ.get("HERMESD_KEEP"):
            shutil.rmtree(place)


@dataclass(slots=True)
class _Room:
    """One room and the person who writes in it, whose client is used by one thread at a time."""

    person: Person
    id: str
    direct: bool
    said: list[str] = field(default_factory=list)  # events, in their order


class _Lives:
    def __init__(self, server: Synapse, home: Path, chance: random.Random):
        self._chance = chance
        self._bot = server.person("bot")
        self._rooms = [self._make_room(server, direct=number % 2 == 0) for number in range(ROOMS)]
        self.started: list[float] = []
        self._numbers = 0
        people = ",".join(room.person.user_id for room in self._rooms)
        env = {
            "MATRIX_HOMESERVER": server.url, "MATRIX_ACCESS_TOKEN": self._bot.token, "MATRIX_ALLOWED_USERS": people,
            "HERMES_MATRIX_TEXT_BATCH_DELAY_SECONDS": "0",  # each message is to have an answer of its own
        }  # fmt: skip
        # on_crash retry: what is tried here is that messages arrive, not what an agent's death means.
        config = {"hermesd": {"workers": {"on_crash": "retry"}}}
        self.daemon = Daemon(home, json.dumps(config), env=env)
        # A first life, that its start may not count what people write as history.
        self.daemon.start()
        self.daemon.kill()

    def _make_room(self, server: Synapse, *, direct: bool) -> _Room:
        person = server.person("person")
        others = [] if direct else [server.person("other")]
        room = person.create_room(self._bot.user_id, *(other.user_id for other in others), direct=direct)
        for other in others:
            other.join(room)
            other.close()
        return _Room(person, room, direct)

    @property
    def said(self) -> list[str]:
        return [event for room in self._rooms for event in room.said]

    def one(self) -> None:
        """One life: people write before it starts, while it starts and while it runs, until it is killed."""
        self._write()
        writers = [
            threading.Thread(target=self._write_on, args=(room, self._plan()), daemon=True) for room in self._rooms
        ]
        began = time.monotonic()
        for writer in writers:
            writer.start()
        if self._chance.random() < 0.25:
            self._kill_while_starting()
        else:
            self.daemon.start()
            self.started.append(time.monotonic() - began)
            time.sleep(self._chance.uniform(0.0, 1.5))
            self.daemon.kill()
        for writer in writers:
            writer.join(60.0)
            assert not writer.is_alive(), "a person is stuck"
        self._write()

    def _plan(self) -> list[float]:
        return [self._chance.uniform(0.0, 0.5) for _ in range(self._chance.randint(1, BURST))]

    def _write_on(self, room: _Room, pauses: list[float]) -> None:
        for pause in pauses:
            time.sleep(pause)
            self._say(room)

    def _write(self) -> None:
        """While nobody is there to read it."""
        for room in self._rooms:
            if self._chance.random() < 0.5:
                self._say(room)

    def _say(self, room: _Room) -> None:
        text = f"message {len(room.said)} of {room.person.user_id}"
        mention = "" if room.direct else self._bot.user_id
        room.said.append(room.person.say(room.id, text, mention=mention))

    def _kill_while_starting(self) -> None:
        command = self.daemon.command("hermesd")
        with subprocess.Popen(
            command, env=self.daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as starting:
            time.sleep(self._chance.uniform(0.3, 2.0))
            starting.kill()

    def check(self) -> dict[str, Any]:
        """In one more life: each message has one final answer, and each room's are in its order."""
        self.daemon.start()
        wrong: list[str] = []
        counts: Counter[str] = Counter()
        for room in self._rooms:
            self._wait_answered(room)
        self.daemon.stop()
        for room in self._rooms:
            room.person.look()
            wrong += self._faults(room, counts)
            room.person.close()
        assert not wrong, wrong
        return {"messages": len(self.said), "lost": 0, "doubled": 0, "out_of_order": 0, **counts}

    def _wait_answered(self, room: _Room) -> None:
        try:
            room.person.wait(lambda: not self._missing(room), ANSWER_SECONDS)
        except AssertionError:
            rows = self.daemon.json("inbox", "ls", "--limit", "1000")["messages"]
            states = {row["message_id"]: row["state"] for row in rows}
            missing = [(room.said.index(event), states.get(event, "never came")) for event in self._missing(room)]
            raise AssertionError(f"not answered in {room.id}: {missing}") from None

    def _missing(self, room: _Room) -> list[str]:
        return [event for event in room.said if not self._answers(room, event)]

    def _answers(self, room: _Room, event: str) -> list[Event]:
        """Without words of hermesd itself, that a place is waited for."""
        found = room.person.answers(room.id, event, self._bot.user_id)
        return [one for one in found if one["content"]["msgtype"] != "m.notice"]

    def _faults(self, room: _Room, counts: Counter[str]) -> list[str]:
        faults = []
        for number, event in enumerate(room.said):
            answers = [one["content"]["body"] for one in self._answers(room, event)]
            expected = f"message {number} of {room.person.user_id}"
            counts["marked"] += sum(PERHAPS_AGAIN in answer for answer in answers)
            if len(answers) != 1 or not _says(answers[0], expected):
                faults.append(f"message {number} of {room.person.user_id} has the answers {answers}")
        if room.direct:  # each message to a room begins a thread, and threads are answered side by side
            shown = [one["content"] for one in room.person.messages(room.id, self._bot.user_id)]
            answers = [content for content in shown if content["msgtype"] != "m.notice"]
            order = [content["m.relates_to"]["m.in_reply_to"]["event_id"] for content in answers]
            if order != room.said:
                faults.append(f"the answers in {room.id} are out of order")
        return faults


def _says(answer: str, expected: str) -> bool:
    """Whether it is demo's answer to this; a mark of a second try and the writer's name may stand before it."""
    said = answer.removeprefix(f"{PERHAPS_AGAIN}\n\n").split("\n")[0]
    return said.startswith("You said: ") and said.endswith(expected)
