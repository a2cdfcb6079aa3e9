"""Three chat networks at once, in bad weather, over deaths of hermesd and of workers: each message answered once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.discord.server import DiscordServer
from harness.figures import summary
from harness.matrix.proxy import Proxy
from harness.matrix.synapse import Synapse
from harness.networks.discord import Discord
from harness.networks.judging import Expected, Verdict, judge
from harness.networks.matrix import Matrix
from harness.networks.network import Answer, Network, Place
from harness.networks.telegram import Telegram
from harness.programs.telling import answer_to, files_of
from harness.scene import PROGRAMS, Scene
from harness.telegram.emulator import Emulator
from hermesd.supervisor.control.client import Client
from hermesd.supervisor.control.errors import ControlError
from hermesd.supervisor.instance.paths import paths_of

NAMES = ("telegram", "discord", "matrix")
DEATHS = 10
RESTARTS = 100
SHARE = 0.05
"""Of the calls of hermesd that meet trouble."""

ANSWER_SECONDS = 300.0
NOTES = 1_000_000
"""From this number on it is what hermesctl has sent, and answers nobody."""

NOTE_SHARE = 0.1
SEND_SECONDS = 5.0
KILLED_OF_RESTARTS = 10
"""The others are ordered: more deaths in a minute would be a reason for hermesd to stop."""


def run(
    times: int,
    seed: int,
    say: Callable[[str], None],
    *,
    deaths: int = DEATHS,
    restarts: int = RESTARTS,
    only: Sequence[str] = NAMES,
) -> dict[str, Any]:
    """``times``: messages on each network. hermesd and workers are killed ``deaths`` times each; then, in good weather,
    workers are restarted ``restarts`` times, which no network may notice.
    """
    chance = random.Random(seed)
    with _networks(only, seed) as networks, _Lives(networks, times, chance, say) as lives:
        lives.introduce()
        order = ["hermesd"] * deaths + ["worker"] * deaths
        chance.shuffle(order)
        for number, victim in enumerate(order):
            lives.one(victim, parts_left=len(order) - number)
            say(f"{number + 1} of {len(order)} deaths ({victim}); written {lives.written()}")
        found = lives.check()
        return found | {"restarts": lives.restart_workers(restarts)}


@contextmanager
def _networks(only: Sequence[str], seed: int) -> Iterator[list[Network]]:
    with contextlib.ExitStack() as stack:
        made: list[Network] = []
        if "telegram" in only:
            made.append(Telegram(stack.enter_context(Emulator(seed=seed)), seed))
        if "discord" in only:
            made.append(Discord(stack.enter_context(DiscordServer()), seed + 1))
        if "matrix" in only:
            place = stack.enter_context(Scene()).place
            synapse = stack.enter_context(Synapse(place / "synapse"))
            matrix = Matrix(synapse, stack.enter_context(Proxy(synapse.url)), seed + 2)
            stack.callback(matrix.close)
            made.append(matrix)
        yield made


@dataclass(slots=True)
class _Written:
    """What was written on one network, by its numbers."""

    network: Network
    quota: int
    send: Callable[[str, str, str], None]  # by hermesctl: platform, chat, text
    said: list[Place] = field(default_factory=list)
    noted: list[Place] = field(default_factory=list)

    def write(self, chance: random.Random, count: int, pause: float) -> None:
        places = self.network.places
        weights = [place.weight for place in places]
        for _ in range(count):
            self.write_in(chance.choices(places, weights)[0])
            if chance.random() < NOTE_SHARE:
                self.note(chance.choice([place for place in places if place.ordered]))
            self.network.disturb(chance)
            time.sleep(chance.uniform(0.0, pause))

    def write_in(self, place: Place) -> None:
        self.said.append(place)
        self.network.say(place, f"This is number {len(self.said) - 1}")

    def note(self, place: Place) -> None:
        number = NOTES + len(self.noted)
        self.noted.append(place)
        self.send(self.network.name, self.network.chat(place), note(number))

    def expected(self) -> dict[int, tuple[Place, Expected]]:
        """Everything that must be there."""
        answers = {
            number: (place, Expected(answer_to(number), files_of(number))) for number, place in enumerate(self.said)
        }
        return answers | {number: (place, Expected(note(number))) for number, place in enumerate(self.noted, NOTES)}

    @property
    def left(self) -> int:
        return max(0, self.quota - len(self.said))


class _Lives:
    def __init__(self, networks: list[Network], quota: int, chance: random.Random, say: Callable[[str], None]):
        self._say = say
        self._chance = chance
        self._all = [_Written(network, quota, self._send) for network in networks]
        self._starts: list[float] = []
        self._half_starts = 0
        self._killed = {"hermesd": 0, "worker": 0}
        self._victims: set[str] = set()
        self._busy_victims = 0
        env = {name: value for network in networks for name, value in network.env.items()}
        self.scene = Scene(
            ours={
                "agent": "telling:make",
                "agent_path": [str(PROGRAMS)],
                "workers": {"on_crash": "retry", "max_turns": 32, "max": 48},  # else chats are told that they wait
            },
            platforms={network.name: {"enabled": True, **network.settings} for network in networks},
            env=env,
        )

    def __enter__(self) -> _Lives:
        self.scene.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.scene.__exit__(*error)

    def written(self) -> dict[str, int]:
        return {one.network.name: len(one.said) for one in self._all}

    def _send(self, platform: str, chat: str, text: str) -> None:
        """As ``hermesctl send --key`` does, until hermesd says that it is on disk."""
        params = {"platform": platform, "chat": chat, "text": text, "key": f"{platform} {text}"}
        daemon = self.scene.daemon
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                with Client(paths_of(daemon.home, daemon.env).control_socket, SEND_SECONDS) as client:
                    next(iter(client.stream("send", params)))
                return
            except ControlError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)  # hermesd is dead, or not there yet

    # ---- lives -------------------------------------------------------------------------------------------------------

    def introduce(self) -> None:
        """Everybody has written once: Discord lists a bot's direct channels nowhere, so its people must be heard live;
        for Matrix all before the first start is history.
        """
        self._start()
        self._wait_connected()
        for one in self._all:
            for place in one.network.places:
                one.write_in(place)
        self._wait_answered()

    def _wait_connected(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        names = {one.network.name for one in self._all}
        while True:
            rows = self.scene.daemon.ask("platforms.list")["platforms"]
            if names <= {row["name"] for row in rows if row["state"] == "online"}:
                return
            assert time.monotonic() < until, rows
            time.sleep(0.1)

    def one(self, victim: str, *, parts_left: int) -> None:
        """People write on all networks at once; in the middle of it somebody dies."""
        for one in self._all:
            one.network.weather.share = SHARE
        writers = [self._writer(one, one.left // parts_left) for one in self._all]
        for writer in writers:
            writer.start()
        time.sleep(self._chance.uniform(0.0, 2.0))
        if victim == "hermesd":
            self._kill_hermesd()
        else:
            self._kill_worker()
        for writer in writers:
            writer.join(ANSWER_SECONDS)
            assert not writer.is_alive(), f"{writer.name} is stuck"

    def _writer(self, one: _Written, count: int) -> threading.Thread:
        own = random.Random(self._chance.random())
        pause = self._chance.choice((0.02, 0.1, 0.2))
        return threading.Thread(
            target=one.write, args=(own, count, pause), name=f"people on {one.network.name}", daemon=True
        )

    def _start(self) -> None:
        began = time.monotonic()
        self.scene.start()
        self._starts.append(time.monotonic() - began)

    def _kill_hermesd(self) -> None:
        self.scene.daemon.kill()
        self._killed["hermesd"] += 1
        time.sleep(self._chance.choice((0.0, 0.5, 4.0)))  # its workers wait for 3 s
        if self._chance.random() < 0.3:
            self._die_while_starting()
        self._start()

    def _die_while_starting(self) -> None:
        daemon = self.scene.daemon
        with subprocess.Popen(
            daemon.command("hermesd"), env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as starting:  # fmt: skip
            time.sleep(self._chance.uniform(0.0, 2.0))
            starting.kill()
        self._half_starts += 1

    def _kill_worker(self) -> None:
        """One that is at work, if there is one. Each session's once: what kills two workers is set aside."""
        began = time.monotonic()
        while True:
            rows = [row for row in self.scene.daemon.workers() if row["session"] not in self._victims and row["pid"]]
            waited = time.monotonic() - began
            if busy := [row for row in rows if row["state"] == "busy"]:
                rows = busy
                self._busy_victims += 1
                break
            if rows and waited > 5.0:
                break
            if waited > 30.0:
                self._victims.clear()  # each has been one; what they were given then is answered long since
            assert waited < ANSWER_SECONDS, "there is no worker that could be killed"
            time.sleep(0.02)
        row = self._chance.choice(rows)
        with contextlib.suppress(ProcessLookupError):
            os.kill(row["pid"], signal.SIGKILL)
            self._killed["worker"] += 1
            self._victims.add(row["session"])

    # ---- the checker -------------------------------------------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """Once the weather is good again everything is answered; each answer is whole, and there once."""
        troubles = {one.network.name: dict(one.network.weather.met) for one in self._all}
        for one in self._all:
            one.network.weather.share = 0.0
        began = time.monotonic()
        self._wait_answered()
        settled = time.monotonic() - began
        self.scene.daemon.stop(timeout=60.0)  # drains: what was still on its way is shown
        results, faults = {}, []
        for one in self._all:
            results[one.network.name], wrong = _judged(one)
            faults += wrong
        for name, result in results.items():
            self._say(f"{name}: {result}")
        assert not faults, "; ".join(faults[:20])
        return {
            "networks": {name: result | {"troubles": troubles[name]} for name, result in results.items()},
            "killed": self._killed,
            "killed_at_work": self._busy_victims,
            "killed_while_starting": self._half_starts,
            "starts": summary(self._starts),
            "all_answered_after_s": round(settled, 1),
        }

    def _wait_answered(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while left := [(one, missing) for one in self._all if (missing := _missing(one))]:
            if time.monotonic() > until:
                raise AssertionError(f"not answered within {ANSWER_SECONDS:.0f} s: {self._story(left)}")
            time.sleep(0.3)

    def _story(self, left: list[tuple[_Written, list[int]]]) -> str:
        told = {}
        for one, numbers in left:
            verdicts, found, _ = _verdicts(one)
            told[one.network.name] = [
                f"number {number} in {one.expected()[number][0].name} has only {verdicts[number].missing}: "
                f"{[(answer.text[:60], answer.files) for answer in found.get(number, ())]}"
                for number in numbers[:20]
            ]
        states = [
            (row["state"], row["id"]) for row in self.scene.daemon.json("inbox", "ls", "--limit", "1000")["messages"]
        ]
        open_ = [state for state in states if state[0] not in ("done", "answered")]
        outbox = self.scene.daemon.json("outbox", "ls", "--limit", "5")["messages"]
        log = self.scene.daemon.ctl("logs").stdout[-3000:]
        return f"{told}; inbox {open_[:20]}; outbox {outbox}; {log}"

    # ---- restarts ----------------------------------------------------------------------------------------------------

    def restart_workers(self, count: int) -> dict[str, Any]:
        """Kill or restart workers one after the other; no connection may be made anew for it."""
        if not count:
            return {}
        self._start()
        self._wait_connected()
        before = {one.network.name: one.network.connections() for one in self._all}
        killed = 0
        for number in range(count):
            one = self._all[number % len(self._all)]
            place = one.network.places[number // len(self._all) % 2]
            one.write_in(place)
            self._wait_answered()
            mine = f"agent:main:{one.network.name}:"
            rows = [row for row in self.scene.daemon.workers() if row["session"].startswith(mine) and row["pid"]]
            row = self._chance.choice(rows)
            if number % max(1, count // KILLED_OF_RESTARTS) == 0:
                with contextlib.suppress(ProcessLookupError):  # one that was killed before, and is in its list still
                    os.kill(row["pid"], signal.SIGKILL)
                killed += 1
            else:
                done = self.scene.daemon.ctl("restart", row["session"])
                assert done.returncode == 0, done.stderr
        for one in self._all:
            one.write_in(one.network.places[0])
        self._wait_answered()
        reconnects = {one.network.name: one.network.connections() - before[one.network.name] for one in self._all}
        assert not any(reconnects.values()), f"connections made anew by {count} restarts of workers: {reconnects}"
        rows = self.scene.daemon.ask("platforms.list")["platforms"]
        assert all(row["connects"] == 1 for row in rows if row["name"] in before), rows
        return {"workers": count, "of_them_killed": killed, "reconnects": reconnects}


def note(number: int) -> str:
    return f"A note of number {number}."


def _verdicts(one: _Written) -> tuple[dict[int, Verdict], dict[int, list[Answer]], list[str]]:
    found, strays = one.network.answers()
    expected = one.expected()
    strays += [str(answer) for number in found.keys() - expected.keys() for answer in found[number]]
    return {number: judge(found.get(number, ()), wanted) for number, (_, wanted) in expected.items()}, found, strays


def _missing(one: _Written) -> list[int]:
    return [number for number, verdict in _verdicts(one)[0].items() if verdict.missing]


def _judged(one: _Written) -> tuple[dict[str, Any], list[str]]:
    """The figures of one network, and what is wrong."""
    verdicts, found, strays = _verdicts(one)
    name, wrong = one.network.name, []
    for number, verdict in verdicts.items():
        if verdict.missing:
            wrong.append(f"{name}: number {number} has only {verdict.missing}")
        wrong += [f"{name}: of number {number} comes twice without a mark: {what!r}" for what in verdict.twice]
        wrong += [f"{name}: number {number}: {what}" for what in verdict.wrong]
    disordered = _disordered(one, found)
    wrong += [f"{name}: out of order in {place}" for place in disordered]
    wrong += [f"{name}: nobody asked for {text!r}" for text in strays]
    every = verdicts.values()
    return {
        "messages": len(one.said),
        "sent_by_hermesctl": len(one.noted),
        "shown": sum(map(len, found.values())),
        "files": sum(len(answer.files) for answers in found.values() for answer in answers),
        "lost": sum(bool(verdict.missing) for verdict in every),
        "doubled_without_a_mark": sum(bool(verdict.twice) for verdict in every),
        "out_of_order": len(disordered),
        "neither_whole_nor_marked": sum(bool(verdict.wrong) for verdict in every),
        "asked_by_nobody": len(strays),
        "sent_again_with_a_mark": sum(max(0, verdict.tries - 1) for verdict in every),
        "of_them_after_a_beginning": sum(verdict.beginnings for verdict in every),
        "connections": one.network.connections(),
    }, wrong


def _disordered(one: _Written, found: dict[int, list[Answer]]) -> list[str]:
    """Places in which an answer, or a note, does not stand whole below what was before it."""
    wrong = []
    for place in one.network.places:
        for numbered in (enumerate(one.said), enumerate(one.noted, NOTES)):
            numbers = [number for number, where in numbered if where == place and number in found]
            ends = [end for number in numbers for end in _ends(found[number])]
            if place.ordered and ends != sorted(ends):
                wrong.append(place.name)
    return wrong


def _ends(answers: list[Answer]) -> tuple[Any, Any]:
    places = [answer.at for answer in answers]
    return min(places), max(places)
