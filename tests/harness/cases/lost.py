"""hermesd and workers killed with 100 messages under way: each is answered once, in order, or told as lost once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.record import Shown
from harness.scene import Scene
from hermesd.supervisor.control.client import call
from hermesd.supervisor.control.errors import ControlError
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN
from hermesd.supervisor.instance.paths import paths_of

CHATS = 10
MESSAGES = 100
ANSWER_SECONDS = 90.0
LATENCY = 0.02
"""Seconds that the platform takes for a message: deaths must hit the middle of a send, too."""

LOST = "/retry runs your message again"
"""What a chat is told of a turn that was lost."""

SESSION_CRASHES = 3
ALL_CRASHES = 14
"""Fewer than what quarantines a session, or ends hermesd: this case is about messages, not about those limits."""


def run(times: int, seed: int, say: Callable[[str], None], *, messages: int = MESSAGES) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for mode in ("retry", "ask"):
        total: Counter[str] = Counter()
        for number in range(times):
            # A round that failed is run again by itself with its own seed: --times 1 --seed that.
            own = seed + number
            with _Round(mode, own, messages) as one:
                counts = one.run()
            total += counts
            say(f"on_crash: {mode}, round {number + 1} of {times} (seed {own}): {_words(counts)}")
        result[mode] = {"rounds": times, "lost": 0, "doubled_without_a_mark": 0, "out_of_order": 0, **total}
    return result


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


@dataclass(slots=True)
class Message:
    id: str
    chat: str
    text: str


@dataclass(slots=True)
class Said:
    """What hermesd has accepted, in the order of each chat."""

    by_chat: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))

    def all(self) -> list[Message]:
        return [message for chat in self.by_chat.values() for message in chat]


class _Round:
    """One home, people who write, a nemesis, and the checker at the end."""

    def __init__(self, mode: str, seed: int, messages: int):
        self._mode = mode
        self._chance = random.Random(f"{mode}-{seed}")
        self._scene = Scene(ours={"workers": {"on_crash": mode, "max_turns": 6}}, fake={"latency": LATENCY})
        self._shown = Shown(self._scene.daemon.home / "shown.jsonl")
        self._control = paths_of(self._scene.daemon.home, self._scene.daemon.env).control_socket
        self._said = Said()
        self._counts: Counter[str] = Counter()
        self._strikes = messages // 5
        self._crashes: Counter[str] = Counter()
        self._struck: set[str] = set()
        self._writers = [
            threading.Thread(target=self._write, args=(f"c{number}", plan), name=f"chat-{number}", daemon=True)
            for number, plan in enumerate(self._plans(messages))
        ]
        self._failures: list[str] = []

    def __enter__(self) -> _Round:
        self._scene.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._scene.__exit__(*error)

    def run(self) -> Counter[str]:
        self._scene.start()
        for writer in self._writers:
            writer.start()
        self._strike()
        for writer in self._writers:
            writer.join(ANSWER_SECONDS + 30.0)
            assert not writer.is_alive(), f"{writer.name} is not answered: {self._state_of_things()}"
        assert not self._failures, self._failures
        self._wait_answered()
        self._scene.daemon.stop()
        self._check()
        self._counts["messages"] = len(self._said.all())
        return self._counts

    # ---- people ------------------------------------------------------------------------------------------------------

    def _plans(self, messages: int) -> list[list[tuple[float, str]]]:
        """For each chat: how long its people wait before each message, and what they say."""
        per_chat = max(1, messages // CHATS)
        plans = []
        for chat in range(min(CHATS, messages)):
            texts = [self._text(f"c{chat} message {number}") for number in range(per_chat)]
            plans.append([(self._chance.uniform(0.0, 0.15), text) for text in texts])
        return plans

    def _text(self, name: str) -> str:
        kind = self._chance.choice(("plain", "plain", "sleep", "sleep", "stream"))
        if kind == "plain":
            return f"This is {name}"
        return f"!sleep {self._chance.uniform(0.05, 0.4):.2f}" if kind == "sleep" else "!stream 40"

    def _write(self, chat: str, plan: list[tuple[float, str]]) -> None:
        try:
            for pause, text in plan:
                time.sleep(pause)
                message = self._say(chat, text)
                while self._mode == "ask" and LOST in self._shown.wait_final(message.id, ANSWER_SECONDS)["text"]:
                    message = self._say(chat, "/retry", repeats=message.text)
        except AssertionError as error:
            self._failures.append(f"{chat}: {error}")

    def _say(self, chat: str, text: str, repeats: str = "") -> Message:
        """Returns once it is accepted. ``repeats``: what a /retry stands for."""
        message = Message(f"{chat}-{len(self._said.by_chat[chat])}", chat, repeats or text)
        self._scene.fake.insist(text, chat=chat, message_id=message.id)
        self._said.by_chat[chat].append(message)
        return message

    # ---- the nemesis -------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        strikes: dict[Callable[[], None], int] = {
            self._kill_hermesd: 3, self._kill_worker: 6, self._kill_both: 2, self._kill_with_keeper: 1, self._cut: 1,
            self._disconnect: 1, self._redeliver: 1,
        }  # fmt: skip
        left = 4 + self._strikes
        while left and (any(writer.is_alive() for writer in self._writers) or self._unanswered()):
            left -= 1
            time.sleep(self._chance.uniform(0.0, 0.3))
            self._chance.choices(list(strikes), list(strikes.values()))[0]()

    def _kill_hermesd(self) -> None:
        assert not self._scene.daemon.wait_dead(0), f"hermesd has ended by itself: {self._end_of_log()}"
        self._scene.daemon.kill()
        self._scene.start()
        self._crashes.clear()  # hermesd counts anew
        self._counts["hermesd_killed"] += 1

    def _kill_both(self) -> None:
        """A worker dies, and nobody is there to see it."""
        self._kill_worker()
        self._kill_hermesd()

    def _kill_with_keeper(self) -> None:
        """Nobody is left who could hand the workers over, so that they end, too."""
        try:
            keeper = call(self._control, "ps")["keeper"]["pid"]
        except ControlError:
            return
        if self._kill_process(keeper):
            self._counts["keepers_killed"] += 1
        self._kill_hermesd()

    def _kill_worker(self) -> None:
        """One that works on a message, which has not cost a worker yet: the second one would make it a dead letter."""
        if self._crashes.total() >= ALL_CRASHES:
            return
        try:
            rows = [row for row in call(self._control, "ps")["workers"] if self._may_die(row)]
            if not rows:
                return
            row = self._chance.choice(rows)
            waiting = call(self._control, "inbox.list", {"session": row["session"], "limit": 1000})["messages"]
        except ControlError:
            return  # it is not that far yet
        if any(message["killed"] for message in waiting if message["state"] in ("queued", "dispatched", "accepted")):
            return
        if self._kill_process(row["pid"]):
            self._struck.add(row["turn"])
            self._crashes[row["session"]] += 1
            self._counts["workers_killed"] += 1

    def _may_die(self, row: dict[str, Any]) -> bool:
        crashed = self._crashes[row["session"]] >= SESSION_CRASHES
        return bool(row["turn"] and row["pid"]) and row["turn"] not in self._struck and not crashed

    def _kill_process(self, pid: int) -> bool:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            mark = f"HERMESD_TAG={self._scene.daemon.instance}-".encode()
            if mark not in Path(f"/proc/{pid}/environ").read_bytes():
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            return False
        finally:
            os.close(handle)
        return True

    def _cut(self) -> None:
        self._ask("cut", error="uncertain", delivered=self._chance.random() < 0.5, after=0.05)
        self._counts["sends_cut"] += 1

    def _disconnect(self) -> None:
        self._ask("disconnect", seconds=self._chance.uniform(0.05, 0.3), confirmed=True)
        self._counts["connections_cut"] += 1

    def _redeliver(self) -> None:
        answer = self._ask("redeliver", confirmed=True)
        assert not answer.get("new"), "what was confirmed was new to hermesd when it came again"
        self._counts["redeliveries"] += 1

    def _ask(self, op: str, **parameters: Any) -> dict[str, Any]:
        """Of the hermesd that lives: the connection that this thread has may be to one that was killed."""
        try:
            return self._scene.fake.ask(op, **parameters)
        except OSError:
            assert not self._scene.daemon.wait_dead(0), f"hermesd has ended by itself: {self._end_of_log()}"
            return self._scene.fake.ask(op, **parameters)

    def _end_of_log(self) -> str:
        lines = (self._scene.daemon.home / "hermesd" / "logs" / "hermesd.log").read_text("utf-8").splitlines()
        return "\n".join(lines[-8:])

    # ---- the checker -------------------------------------------------------------------------------------------------

    def _wait_answered(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while missing := self._unanswered():
            assert time.monotonic() < until, f"{len(missing)} are not answered: {missing}; {self._state_of_things()}"
            time.sleep(0.05)

    def _unanswered(self) -> list[str]:
        answered = {one["reply_to"] for one in self._shown.messages() if one["final"]}
        return [message.id for message in self._said.all() if message.id not in answered]

    def _state_of_things(self) -> str:
        try:
            rows = call(self._control, "inbox.list", {"limit": 1000})["messages"]
            return str([(row["message_id"], row["state"], row["error"]) for row in rows if row["state"] != "answered"])
        except ControlError as error:
            return f"hermesd does not say more: {error}"

    def _check(self) -> None:
        wrong = []
        for message in self._said.all():
            finals = self._shown.finals(message.id)
            plain = [one for one in finals if PERHAPS_AGAIN not in one["text"]]
            lost = any(LOST in one["text"] for one in finals)
            self._counts["answers_marked"] += len(finals) - len(plain)
            self._counts["told_lost"] += lost
            if len(plain) > 1:
                wrong.append(f"{message.id} has {len(plain)} answers without a mark: {[one['text'] for one in plain]}")
            if lost and self._mode == "retry":
                wrong.append(f"{message.id} was lost")
            if not lost and not all(_fits(message.text, one["text"]) for one in finals):
                wrong.append(f"{message.id} {message.text!r} has a wrong answer: {[one['text'] for one in finals]}")
        wrong += [
            f"chat {chat} is out of order: {order}" for chat in self._said.by_chat if (order := self._disorder(chat))
        ]
        wrong += self._faults_on_disk()
        assert not wrong, wrong

    def _disorder(self, chat: str) -> list[str]:
        """The order in which a chat saw its answers for the first time, unless it is that of its messages."""
        shown = [one["reply_to"] for one in self._shown.messages() if one["chat"] == chat and one["final"]]
        first = list(dict.fromkeys(shown))
        return first if first != [message.id for message in self._said.by_chat[chat]] else []

    def _faults_on_disk(self) -> list[str]:
        path = self._scene.daemon.home / "hermesd" / "state.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            integrity = [row[0] for row in journal.execute("PRAGMA integrity_check")]
            states = dict(journal.execute("SELECT message_id, state FROM inbox").fetchall())
            unsent = journal.execute("SELECT id, state, error FROM outbox WHERE state <> 'sent'").fetchall()
        faults = [] if integrity == ["ok"] else integrity
        faults += [f"outbox row {row} was not sent" for row in unsent]
        ends = {"retry": {"answered"}, "ask": {"answered", "lost"}}[self._mode]
        said = {message.id for message in self._said.all()}
        if said != set(states):
            faults.append(f"the inbox has other messages than were accepted: {said ^ set(states)}")
        return faults + [f"{name} is {state}" for name, state in states.items() if state not in ends]


def _fits(text: str, answer: str) -> bool:
    """Whether the demo agent says this to that."""
    answer = answer.removeprefix(f"{PERHAPS_AGAIN}\n\n")
    if text.startswith("!sleep "):
        return answer == f"Slept for {float(text.split()[1]):g} s."
    if text.startswith("!stream "):
        return answer.split() == [str(number) for number in range(1, int(text.split()[1]) + 1)]
    return answer.startswith(f"You said: {text}\n")
