"""Anything is killed in any way at any moment: nothing is left, and every accepted message comes to its end."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from harness.daemon import CannotStart
from harness.scene import PROGRAMS, Scene

HOWS = {
    "KILL": signal.SIGKILL,
    "STOP": signal.SIGSTOP,
    "SEGV": signal.SIGSEGV,
    "ABRT": signal.SIGABRT,
    "os._exit": signal.SIGUSR2,  # see harness/programs/mortal.py
}
MOMENTS = ("before hello", "after hello", "mid-turn", "while draining", "while being killed")
VICTIMS = ("worker", "keeper", "MCP server", "grandchild", "hermesd")

AT_ONCE = 4
"""Kills of a round; each has a chat of its own, so that none is quarantined for what was done to another."""

ROUNDS_OF_A_LIFE = 6
"""Then hermesd is stopped politely, and nothing of anything may be left."""

ANSWER_SECONDS = 60.0
STOP_SECONDS = 30.0
DRAIN_SECONDS = 2

BUSY = ("!sleep 600", "!sleep 600", '!call plain.slow {"seconds": 600}', "!stream 500", "!spin 600")
"""One of five does not listen to its interrupt, and has to be killed."""

PAUSE_SECONDS = 1.0
"""How long a hermesd stays stopped, and a keeper that is not for hermesd to find."""

OWN_DESCRIPTORS = 48
DESCRIPTORS_OF_A_WORKER = 3
"""What hermesd may have open: itself with its keepers, and for each worker its connection, its log and its process."""

HANG_TIMEOUT = 2
ADOPT_TIMEOUT = 3


class Kill(NamedTuple):
    how: str
    moment: str
    victim: str


def deck(chance: random.Random) -> Iterator[Kill]:
    """Every combination, shuffled, again and again: none comes a third time before all came twice."""
    every = [Kill(*cell) for cell in itertools.product(HOWS, MOMENTS, VICTIMS)]
    while True:
        chance.shuffle(every)
        yield from every


def run(times: int, seed: int, say: Callable[[str], None], *, minutes: float = 0.0) -> dict[str, Any]:
    """``times`` rounds of four kills; with ``minutes`` as many as fit."""
    ends = time.monotonic() + minutes * 60.0
    chance = random.Random(seed)
    kills = deck(chance)
    with _World(chance) as world:
        number = 0
        while time.monotonic() < ends if minutes else number < times:
            number += 1
            world.round([next(kills) for _ in range(AT_ONCE)])
            if number % ROUNDS_OF_A_LIFE == 0:
                world.stop_and_look()
                say(f"{world.killed.total()} killed in {number} rounds, {len(world.said)} messages, nothing left")
        world.stop_and_look()
        world.check_answers()
        return {
            "killed": world.killed.total(),
            "cells": len(world.killed),
            "too_late": world.too_late,
            "messages": len(world.said),
            "ended": len(world.said),
            "left": 0,
            "lives": world.lives,
        }


class Target:
    """A process by its pidfd: whoever gets its number later is not hit."""

    def __init__(self, pid: int):
        self._pidfd = -1
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid) if pid else -1

    def send(self, number: int) -> bool:
        """False: it is dead already, or never was."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def another(self) -> Target:
        """The same process, to be closed by itself."""
        copy = Target(0)
        copy._pidfd = os.dup(self._pidfd)
        return copy

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class _World:
    """One home, one fake platform, and everything that was said to it."""

    def __init__(self, chance: random.Random):
        self._chance = chance
        self.scene = Scene(
            ours={
                "agent": "mortal:make",
                "agent_path": [str(PROGRAMS)],
                "adopt_timeout": f"{ADOPT_TIMEOUT}s",
                "stop_budget": "12s",
                "workers": {"hang_timeout": f"{HANG_TIMEOUT}s", "spare": 0, "max_turns": 8},
            },
            env={"PYTHONPATH": self._site()},
        )
        child = {**self.scene.hostile("leave_a_child"), "timeout": 5}
        self.scene.configure(plain=child)
        self.said: list[tuple[str, str]] = []
        self.killed: Counter[Kill] = Counter()
        self._paused: list[Target] = []
        self.too_late = 0  # the victim had gone by itself when its turn came
        self.lives = 0
        self._count = 0

    def _site(self) -> str:
        import tempfile

        self._sites = tempfile.TemporaryDirectory(prefix="hd-site-")
        os.symlink(PROGRAMS / "mortal.py", Path(self._sites.name) / "sitecustomize.py")
        return self._sites.name

    def __enter__(self) -> _World:
        self.scene.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self.scene.__exit__(*error)
        finally:
            self._continue_the_paused()
            self._sites.cleanup()

    # ---- a round -----------------------------------------------------------------------------------------------------

    def round(self, kills: list[Kill]) -> None:
        self._up()
        chats = []
        for kill in kills:
            self._count += 1
            chats.append((kill, f"k{self._count}"))
        starting = [one for one in chats if one[0].moment == "before hello" and one[0].victim in ("keeper", "hermesd")]
        others = [one for one in chats if one not in starting]
        for kill, chat in others:
            if kill.moment != "before hello":
                self._say("!start", chat)
        self._settle(chat for kill, chat in others if kill.moment != "before hello")
        for kill, chat in others:
            if kill.moment in ("mid-turn", "while draining", "while being killed"):
                self._say(self._chance.choice(BUSY), chat)
        self._wait_busy([chat for kill, chat in others if kill.moment in ("mid-turn", "while draining")])
        # Who is who is asked before anything happens: a moment later some of them may not be there any more.
        rows = {row["session"]: row for row in self._rows()}
        targets = {
            chat: Target(self._pid_of(kill.victim, rows.get(self.scene.session(chat))))
            for kill, chat in others
            if kill.moment != "before hello"
        }
        stopping: list[subprocess.Popen[bytes]] = []
        draining = False
        for kill, chat in sorted(others, key=lambda one: MOMENTS.index(one[0].moment)):
            if kill.moment == "while draining" and not draining:
                draining = True
                stopping.append(self._ctl("stop", "--timeout", f"{DRAIN_SECONDS}s"))
                self._wait_draining()
            if kill.moment == "while being killed":
                stopping.append(self._ctl("stop", self.scene.session(chat)))
                time.sleep(self._chance.uniform(0.05, 0.4))
            self._strike(kill, chat, targets.get(chat))
        for target in targets.values():
            target.close()
        self._continue_the_paused()
        for process in stopping:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()
            process.wait()
        for kill, _ in starting:
            self._strike_while_starting(kill)
        self._up()
        for _, chat in others:
            self._end(chat)

    def _strike(self, kill: Kill, chat: str, target: Target | None) -> None:
        if target is None:
            known = {child.pid for child in self._below_keeper()}
            called = set(self.scene.roll.alive())
            self._try(lambda: self._say("!start", chat))
            target = Target(self._wait_new(kill.victim, known, called))
        if target.send(HOWS[kill.how]):
            self.killed[kill] += 1
            stopped = kill.victim if kill.how == "STOP" else ""
            if stopped == "hermesd" or (stopped == "keeper" and self._chance.random() < 0.5):
                self._paused.append(target.another())
        else:
            self.too_late += 1

    def _strike_while_starting(self, kill: Kill) -> None:
        """A hermesd, or its keeper, in the first second of its life."""
        self._stop()
        daemon = self.scene.daemon
        with subprocess.Popen(
            daemon.command("hermesd"), env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            began = time.monotonic()
            moment = began + self._chance.uniform(0.05, 1.0)
            pid = process.pid
            if kill.victim == "keeper":
                while not (pid := self._keeper_of(process.pid)) and time.monotonic() < began + 5.0:
                    time.sleep(0.002)
            time.sleep(max(0.0, moment - time.monotonic()))
            struck = bool(pid) and self._send(pid, HOWS[kill.how])
            self.killed[kill] += struck
            self.too_late += not struck
            if kill.how == "STOP":
                time.sleep(PAUSE_SECONDS)
                self._send(pid, signal.SIGCONT)
            # Whether it lived through that or not: the next one must be able to start.
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"hermesd did not end after {kill}") from None
        daemon.release()

    def _end(self, chat: str) -> None:
        """Whatever still runs there is stopped; then the chat must answer as if nothing had been."""
        self._say("/stop", chat)
        self._say("hello again", chat)
        self._settle([chat])

    # ---- hermesd -----------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        daemon = self.scene.daemon
        until = time.monotonic() + STOP_SECONDS
        while True:
            if daemon.running and not daemon.wait_dead(0):
                status = daemon.ctl("--json", "status")
                if '"draining"' not in status.stdout and status.returncode == 0:
                    return
                assert daemon.wait_dead(max(0.1, until - time.monotonic())), f"it neither ends nor runs: {status}"
            self.scene.fake.close()
            try:
                daemon.start()
                self.lives += 1
                return
            except CannotStart as error:
                # Somebody that is still ending holds the home.
                if time.monotonic() > until:
                    raise AssertionError(f"hermesd does not start: {error}") from error
                time.sleep(0.1)

    def _stop(self) -> None:
        daemon = self.scene.daemon
        if daemon.running and not daemon.wait_dead(0):
            daemon.ctl("stop", "--timeout", "1s", timeout=STOP_SECONDS)
            assert daemon.wait_dead(STOP_SECONDS), "hermesd does not stop"
        self.scene.fake.close()

    def stop_and_look(self) -> None:
        """Nothing of anything is left, whatever was done to it."""
        self._up()
        self._settle({chat for chat, _ in self.said[-AT_ONCE * ROUNDS_OF_A_LIFE * 4 :]})
        self._look_at_descriptors()
        self._stop()
        scene, daemon = self.scene, self.scene.daemon
        daemon.release()
        daemon.wait_nothing_left(ADOPT_TIMEOUT + 5.0)
        left = [*scene.roll.alive(), *daemon.cgroups(), *daemon.sockets(), *map(str, scene.temporary.iterdir())]
        assert not left, left

    def _look_at_descriptors(self) -> None:
        """An undumpable process shows its own to root only."""
        with contextlib.suppress(PermissionError):
            workers = len(self._rows())
            count = len(os.listdir(f"/proc/{self.scene.daemon.pid}/fd"))
            allowed = OWN_DESCRIPTORS + DESCRIPTORS_OF_A_WORKER * workers
            assert count <= allowed, f"hermesd has {count} descriptors open, with {workers} workers"

    # ---- talking -----------------------------------------------------------------------------------------------------

    def _say(self, text: str, chat: str) -> None:
        """Until it is accepted: a hermesd that is down or about to go says so, and the sender tries again."""
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self.said.append((chat, self.scene.fake.say(text, chat=chat)))
                return
            except (OSError, AssertionError, ValueError) as error:
                if time.monotonic() > until:
                    raise AssertionError(f"{text!r} is not accepted: {error}") from error
                self._up()

    def _try(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, AssertionError):
            action()

    def _settle(self, chats: Any) -> None:
        """Every message to these chats has its final answer."""
        wanted = set(chats)
        for chat, message in self.said:
            if chat in wanted:
                self._final(chat, message)

    def _final(self, chat: str, message: str) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self.scene.fake.final(message, chat=chat, seconds=5.0)
                return
            except (OSError, AssertionError) as error:
                if time.monotonic() > until:
                    raise AssertionError(f"no end of {message} in {chat}: {error}") from error
                self._up()

    def check_answers(self) -> None:
        self._up()
        wrong = []
        for chat, message in self.said:
            finals = [one for one in self.scene.fake.shown(chat=chat, reply_to=message) if one["final"]]
            if not finals:
                wrong.append((chat, message))
        assert not wrong, wrong
        self._stop()
        self.scene.daemon.release()

    def _wait_busy(self, chats: list[str]) -> None:
        until = time.monotonic() + 10.0
        sessions = {self.scene.session(chat) for chat in chats}
        while time.monotonic() < until:
            rows = {row["session"]: row for row in self._rows()}
            if all(rows.get(session, {}).get("turn") for session in sessions):
                return
            time.sleep(0.05)

    def _wait_draining(self) -> None:
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError, KeyError, ValueError):
                if self.scene.daemon.json("status")["state"] == "draining":
                    return

    # ---- who is who --------------------------------------------------------------------------------------------------

    def _rows(self) -> list[dict[str, Any]]:
        with contextlib.suppress(AssertionError, KeyError, ValueError):
            return list(self.scene.daemon.json("ps", "--tree")["workers"])
        return []

    def _pid_of(self, victim: str, row: dict[str, Any] | None = None) -> int:
        daemon = self.scene.daemon
        if victim == "hermesd":
            return daemon.pid if not daemon.wait_dead(0) else 0
        if victim == "keeper":
            return self._keeper_of(daemon.pid)
        if row is None:
            return 0
        if victim == "worker":
            return int(row["pid"] or 0)
        servers = {server["pid"] for server in row["mcp"] if server["pid"]}
        if victim == "MCP server":
            return int(min(servers, default=0))
        return next((int(line["pid"]) for line in row.get("tree", []) if line["mcp"] and line["pid"] not in servers), 0)

    @staticmethod
    def _keeper_of(pid: int) -> int:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(pid).children():
                if "hermesd.workers.keeper" in " ".join(child.cmdline()):
                    return child.pid
        return 0

    def _below_keeper(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self._keeper_of(self.scene.daemon.pid)).children()
        return []

    def _wait_new(self, victim: str, known: set[int], called: set[int]) -> int:
        """The process that a message has just brought about, before it has said hello."""
        if victim == "hermesd":
            return self._pid_of("hermesd")
        if victim == "keeper":
            return self._pid_of("keeper")
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            if victim == "worker":
                new = [child.pid for child in self._below_keeper() if child.pid not in known]
                if new:
                    return new[0]
            else:
                new = sorted(set(self.scene.roll.alive()) - called)
                parents = {pid: self._parent(pid) for pid in new}
                leaders = [pid for pid, parent in parents.items() if parent not in parents]
                wanted = leaders if victim == "MCP server" else [pid for pid in new if pid not in leaders]
                if wanted:
                    return wanted[0]
            time.sleep(0.001)
        return 0

    @staticmethod
    def _parent(pid: int) -> int:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).ppid()
        return 0

    @staticmethod
    def _send(pid: int, number: int) -> bool:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _continue_the_paused(self) -> None:
        """hermesd and some keepers that were stopped go on; the others, workers and servers must be found out."""
        if self._paused:
            time.sleep(PAUSE_SECONDS)
        while self._paused:
            target = self._paused.pop()
            target.send(signal.SIGCONT)
            target.close()

    def _ctl(self, *args: str) -> subprocess.Popen[bytes]:
        daemon = self.scene.daemon
        return subprocess.Popen(
            daemon.command("hermesctl", *args), env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
