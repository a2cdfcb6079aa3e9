"""``kill -9`` of hermesd while a Discord delivers numbered messages: each is answered once, whenever it came."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.daemon import Daemon
from harness.discord.server import DiscordServer
from harness.discord.world import Json
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

MOMENTS = ("while it answers", "while it answers", "while idle", "while it starts", "while it reads on")
TROUBLES = ("", "", "", "a dropped socket", "a cut socket", "an invalid session", "a cut answer", "a limit")
ANSWER_SECONDS = 60.0
GONE_SECONDS = 5.0


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    place = Path(tempfile.mkdtemp(prefix="hd-"))
    try:
        with DiscordServer() as server:
            lives = _Lives(server, place, random.Random(seed))
            with lives.daemon:
                lives.introduce()
                for number in range(times):
                    moment = lives.one(number)
                    say(f"killed {number + 1} of {times} times ({moment}); {len(lives.said)} messages")
                result = lives.check()
                lives.daemon.stop()
            lives.daemon.wait_nothing_left(GONE_SECONDS)
            assert not lives.daemon.cgroups(), lives.daemon.cgroups()
            return {"killed": times, **result}
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class _Said:
    number: int
    channel: str
    id: str

    @property
    def mark(self) -> str:
        return f"message {self.number};"


class _Lives:
    """One home and one Discord, over the deaths of its hermesd."""

    def __init__(self, server: DiscordServer, place: Path, chance: random.Random):
        self.server = server
        self.chance = chance
        self.said: list[_Said] = []
        self.moments: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.users = [f"user{number}" for number in range(3)]
        self.direct = {server.direct(user): user for user in self.users}
        self.free, self.mentioned = server.channel("free"), server.channel("mentioned")
        allowed = ",".join(server.user_id(user) for user in self.users)
        extra = {**server.extra, "free_response_channels": [self.free]}
        config = {"platforms": {"discord": {"enabled": True, "token": server.world.token, "extra": extra}}}
        temporary = place / "tmp"
        temporary.mkdir()
        self.daemon = Daemon(
            place / "home", json.dumps(config), env={"TMPDIR": str(temporary), "DISCORD_ALLOWED_USERS": allowed}
        )

    def introduce(self) -> None:
        """Discord lists a bot's direct channels nowhere: who writes for the first time must be heard live."""
        self._start()
        for channel in (*self.direct, self.free, self.mentioned):
            self._write_in(channel)
        self.server.wait(lambda: not self._open(), ANSWER_SECONDS, what="everybody is known")
        self.daemon.kill()

    def one(self, number: int) -> str:
        """One life and its death. People write before, during and after."""
        moment = MOMENTS[number % len(MOMENTS)] if number < len(MOMENTS) else self.chance.choice(MOMENTS)
        self.moments[moment] += 1
        self._write(self.chance.randint(1, 4))
        if moment == "while it starts":
            self._kill_while_starting()
            return moment
        self._start()
        if moment == "while it reads on":
            time.sleep(self.chance.uniform(0.0, 0.2))
        else:
            talking = threading.Thread(target=self._talk, args=(self.chance.randint(3, 9),), name="talking")
            talking.start()
            if moment == "while idle":
                talking.join()
                self.server.wait(lambda: not self._open(), ANSWER_SECONDS, what="everything is answered")
            else:
                time.sleep(self.chance.uniform(0.0, 0.5))
            self.daemon.kill()
            talking.join()
            return moment
        self.daemon.kill()
        return moment

    def _start(self) -> None:
        self.daemon.start()
        self.server.wait_connected()

    def _kill_while_starting(self) -> None:
        with subprocess.Popen(
            self.daemon.command("hermesd"), env=self.daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as starting:  # fmt: skip
            time.sleep(self.chance.uniform(0.0, 1.5))
            starting.kill()

    def _talk(self, count: int) -> None:
        for _ in range(count):
            self._write(1)
            self._trouble(self.chance.choice(TROUBLES))
            time.sleep(self.chance.uniform(0.0, 0.1))

    def _write(self, count: int) -> None:
        for _ in range(count):
            self._write_in(self.chance.choice([*self.direct, self.free, self.mentioned]))

    def _write_in(self, channel: str) -> None:
        number = len(self.said)
        user = self.direct.get(channel) or self.chance.choice(self.users)
        mention = f"{self.server.mention} " if channel == self.mentioned else ""
        sent = self.server.say(channel, f"{mention}message {number};", user=user)
        self.said.append(_Said(number, channel, sent))

    def _trouble(self, trouble: str) -> None:
        self.troubles[trouble] += bool(trouble)
        match trouble:
            case "a dropped socket":
                self.server.drop(4000)
            case "a cut socket":
                self.server.cut()
            case "an invalid session":
                self.server.invalidate()
            case "a cut answer":
                self.server.fail("POST", "/messages$", carried_out=True)
            case "a limit":
                self.server.limit("/messages$", self.chance.uniform(0.1, 1.5), method="POST")

    def _answers(self, said: _Said) -> list[Json]:
        """What the bot said to this message: by its number, as a quote of it, or in the thread that it began."""
        places = [said.channel, *([said.id] if said.id in self.server.world.channels else [])]
        return [
            one
            for place in places
            for one in self.server.by_bot(place)
            if said.mark in one["content"]
            or (one.get("message_reference") or {}).get("message_id") == said.id
            or (place == said.id and "message " not in one["content"])
        ]

    def _open(self) -> list[_Said]:
        return [said for said in [*self.said] if not self._answers(said)]

    def check(self) -> dict[str, Any]:
        """In one more life everything is answered, and nothing twice that does not say so."""
        self._start()
        try:
            self.server.wait(lambda: not self._open(), ANSWER_SECONDS)
        except AssertionError as error:
            shown = {said.mark: said.channel for said in self._open()}
            raise AssertionError(f"never answered: {shown}; {self.daemon.ctl('logs').stdout[-4000:]}") from error
        lost = marked = 0
        wrong = []
        for said in self.said:
            answers = [one["content"] for one in self._answers(said)]
            again = [text for text in answers if PERHAPS_AGAIN in text]
            marked += len(again)
            lost += any(said.mark not in text for text in answers)
            if len(answers) - len(again) != 1 and not (len(answers) == len(again) == 1):
                wrong.append((said.mark, said.channel, answers))
        assert not wrong, wrong
        return {
            "messages": len(self.said),
            "answered": len(self.said),
            "told_lost": lost,
            "sent_again_with_a_mark": marked,
            "moments": dict(self.moments),
            "troubles": {key: count for key, count in self.troubles.items() if count},
            "identifies": self.server.gateway.identifies,
            "resumes": self.server.gateway.resumes,
        }
