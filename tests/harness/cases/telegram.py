"""Telegram delivers while hermesd is killed and connections break: each message answered, doubles only where marked."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from typing import Any

from harness.figures import summary
from harness.scene import Scene
from harness.telegram import errors
from harness.telegram.emulator import Emulator
from harness.telegram.world import Message, User
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

CHATS = 10
MESSAGES = 200
ANSWER_SECONDS = 120.0

TOLD_LOST = "hermesd was restarted"
END = "what I can do."  # of what the demo agent says to anything


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``times`` deaths while `MESSAGES` are written in `CHATS` chats; then one more life, which ends what is open."""
    chance = random.Random(seed)
    with Emulator(seed=seed) as telegram, _Lives(telegram, chance) as lives:
        quota = [MESSAGES // times + (number < MESSAGES % times) for number in range(times)]
        for number, messages in enumerate(quota):
            lives.one(messages)
            say(f"hermesd killed {number + 1} of {times} times, {len(lives.said)} messages written")
        return lives.check() | {"killed": times, "starts": summary(lives.starts)}


class _Lives:
    def __init__(self, telegram: Emulator, chance: random.Random):
        self._telegram = telegram
        self._chance = chance
        self._users = [telegram.user(f"User {number}") for number in range(CHATS)]
        self.said: list[tuple[User, int, str]] = []
        self.starts: list[float] = []
        extra = {"base_url": telegram.base_url}
        self.scene = Scene(
            ours={"workers": {"max_turns": CHATS}},  # else chats are also told that they wait for a place
            platforms={"telegram": {"enabled": True, "token": telegram.token, "extra": extra}},
            # Each message is answered for itself, also when several come at once.
            env={"TELEGRAM_ALLOW_ALL_USERS": "true", "HERMES_TELEGRAM_TEXT_BATCH_DELAY_SECONDS": "0"},
        )

    def __enter__(self) -> _Lives:
        self.scene.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._telegram.heal()
        self.scene.__exit__(*error)

    def one(self, messages: int) -> None:
        """A life and its end, at a moment that nobody chose; people write before, in and after it."""
        chance = self._chance
        before = chance.randrange(messages + 1)
        self._write(before, pause=0.0)
        if chance.random() < 0.2:
            self._die_while_starting()
        else:
            began = time.monotonic()
            self.scene.start()
            self.starts.append(time.monotonic() - began)
            self._break_something()
            self._write(messages - before, pause=chance.choice((0.0, 0.01, 0.05)))
            time.sleep(chance.uniform(0.0, 0.4))
            self.scene.daemon.kill()
            self.scene.fake.close()
            before = messages
        self._write(messages - before, pause=0.0)

    def _write(self, count: int, *, pause: float) -> None:
        for _ in range(count):
            user = self._chance.choice(self._users)
            text = f"number {len(self.said)}"
            self.said.append((user, self._telegram.say(text, user), text))
            time.sleep(self._chance.uniform(0.0, pause))

    def _break_something(self) -> None:
        telegram, chance = self._telegram, self._chance
        telegram.heal()
        if chance.random() < 0.7:
            telegram.cut("sendMessage", chance.choice(("before", "after")), chance.randrange(1, 4))
        if chance.random() < 0.5:
            telegram.fail("sendMessage", errors.retry_after(1), chance.randrange(1, 3))
        if chance.random() < 0.5:
            telegram.cut("getUpdates", chance.choice(("before", "after")), chance.randrange(1, 4))

    def _die_while_starting(self) -> None:
        daemon = self.scene.daemon
        with subprocess.Popen(
            daemon.command("hermesd"), env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as starting:  # fmt: skip
            time.sleep(self._chance.uniform(0.0, 1.5))
            starting.kill()

    def check(self) -> dict[str, Any]:
        """In one more life."""
        telegram = self._telegram
        telegram.heal()
        self.scene.start()
        telegram.wait(lambda: not self._unanswered(), ANSWER_SECONDS, what="an answer to every message")
        telegram.wait(lambda: telegram.waiting() == 0, what="every update acknowledged")
        self.scene.daemon.stop()  # drains: what was still on its way is shown
        doubled, lost, marked, told = [], self._unanswered(), 0, 0
        for user, number, text in self.said:
            answers = self._answers(user, number)
            again = [answer for answer in answers if PERHAPS_AGAIN in answer.text]
            marked += len(again)
            told += any(TOLD_LOST in answer.text for answer in answers)
            if len(answers) - len(again) > 1 or not all(
                f"{text}\n" in answer.text or TOLD_LOST in answer.text for answer in answers
            ):
                doubled.append((user.id, text, [answer.text for answer in answers]))
        assert not lost, f"never answered: {lost}"
        assert not doubled, f"answered twice without a mark, or with another's answer: {doubled}"
        disordered = self._disordered()
        assert not disordered, f"answered out of order: {disordered}"
        return {
            "messages": len(self.said),
            "chats": CHATS,
            "lost": 0,
            "doubled_without_a_mark": 0,
            "sent_again_with_a_mark": marked,
            "told_that_its_turn_was_lost": told,
        }

    def _answers(self, user: User, number: int) -> list[Message]:
        return self._telegram.answers(self._telegram.private(user), number)

    def _unanswered(self) -> list[str]:
        return [
            text
            for user, number, text in self.said
            if not any(_answers_to(text, answer) for answer in self._answers(user, number))
        ]

    def _disordered(self) -> list[tuple[int, list[int]]]:
        """Chats whose first answers are not in the order of their questions."""
        wrong = []
        for user in self._users:
            firsts = [self._answers(user, number)[0].id for one, number, _ in self.said if one is user]
            if firsts != sorted(firsts):
                wrong.append((user.id, firsts))
        return wrong


def _answers_to(text: str, answer: Message) -> bool:
    """The whole answer, or the word that there will be none."""
    return (f"{text}\n" in answer.text and answer.text.endswith(END)) or TOLD_LOST in answer.text
