"""Twenty sessions with three servers: after each reconnect and each reload exactly the right processes are there."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.census import kill, tag_of, tagged
from harness.figures import summary
from harness.scene import HOSTILE, Scene
from hermesd.workers.containment.tag import worker_prefix

SESSIONS = 20
SERVERS = ("a", "b", "c")
PROCESSES = 3  # of each: a wrapper, the server, and a child of it in a session of its own
RECONNECTS_PER_RELOAD = 5
CALLERS = 2  # of them: the wrapper is not on the roll
GREW = 2  # descriptors of a worker
SETTLED_SECONDS = 20.0
AT_ONCE = 4

Slot = tuple[str, str]  # chat, server


def run(times: int, seed: int, say: Callable[[str], None], *, sessions: int = SESSIONS) -> dict[str, Any]:
    """``times`` reconnects; after each five of them the configuration of one server changes."""
    chance = random.Random(seed)
    with Scene() as scene:
        world = _World(scene, [f"chat{number}" for number in range(sessions)])
        world.start()
        for number in range(times):
            world.reconnect(chance)
            if (number + 1) % RECONNECTS_PER_RELOAD == 0:
                world.reload(chance)
                say(f"{number + 1} reconnects, {world.reloads} reloads; {world.told()}")
        scene.daemon.stop()
        left = [*scene.daemon.processes(), *scene.roll.alive(), *scene.daemon.cgroups()]
        assert not left, left
    return world.told()


class _World:
    """What ought to run, beside what the kernel says."""

    def __init__(self, scene: Scene, chats: list[str]):
        self._scene = scene
        self._chats = chats
        self._versions = dict.fromkeys(SERVERS, 0)
        self._live: set[Slot] = set()
        self._tags: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        self._descriptors: dict[str, int] = {}
        self._grew = 0
        self._took: list[float] = []
        self.reconnects = self.killed = self.reloads = self.checks = 0

    def told(self) -> dict[str, Any]:
        return {
            "sessions": len(self._chats), "reconnects": self.reconnects, "of_them_killed": self.killed,
            "reloads": self.reloads, "exact_counts": self.checks, "descriptors_grew_at_most": self._grew,
            "answered_after_reconnect": summary(self._took),
        }  # fmt: skip

    def start(self) -> None:
        scene = self._scene
        scene.configure_ours(workers={"max": len(self._chats) + 1, "idle_timeout": "12h"})
        self._configure()
        scene.start()
        self._call((chat, name) for chat in self._chats for name in SERVERS)
        for chat in self._chats:
            row = scene.worker(chat)
            self._pids[chat] = row["pid"]
            self._tags[chat] = worker_prefix(tag_of(row["pid"]))
            self._descriptors[chat] = _descriptors(row["pid"])
        self._check()

    def reconnect(self, chance: random.Random) -> None:
        chat, name = chance.choice(self._chats), chance.choice(SERVERS)
        if (chat, name) not in self._live:
            self._call([(chat, name)])
        before = self._row(chat, name)
        self.reconnects += 1
        if chance.random() < 0.3:
            self.killed += 1
            kill(before["pid"])
            self._wait_for(lambda: self._row(chat, name)["state"] == "broken")
            # Three crashes are free, and this is about processes, not about the budget.
            self._scene.daemon.ask("mcp.reset", server=name)
        else:
            done = self._scene.daemon.ctl("mcp", "restart", name, "--session", self._scene.session(chat))
            assert done.returncode == 0, done.stderr
        self._live.discard((chat, name))
        self._check()
        began = time.monotonic()
        self._call([(chat, name)])
        self._took.append(time.monotonic() - began)
        after = self._row(chat, name)
        assert after["generation"] == before["generation"] + 1, (before, after)
        self._check()

    def reload(self, chance: random.Random) -> None:
        """One server gets another configuration: its processes end everywhere, and nobody else's."""
        name = chance.choice(SERVERS)
        others = self._others(name)
        self._versions[name] += 1
        self._configure()
        done = self._scene.daemon.json("reload")
        assert done["mcp"] == {"added": [], "replaced": [name], "adjusted": [], "removed": []}, done
        self.reloads += 1

        def is_taken_up() -> bool:
            document = self._scene.daemon.ask("mcp.list", figures=False)
            (config,) = (one["config"] for one in document["budgets"] if one["server"] == name)
            rows = [row for row in document["servers"] if row["server"] == name]
            return all(row["config"] == config and row["pid"] is None for row in rows)

        self._wait_for(is_taken_up)
        self._live = {slot for slot in self._live if slot[1] != name}
        self._check()
        assert others == self._others(name), "another server was touched"
        self._call((chat, name) for chat in chance.sample(self._chats, min(3, len(self._chats))))
        self._check()

    def _others(self, name: str) -> set[int]:
        """The processes of all servers but one."""
        return {row["pid"] for row in self._rows() if row["server"] != name and row["pid"]}

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        server = [sys.executable, "-S", str(HOSTILE), "leave_a_child"]
        environment = {"CONNECT_BACK": str(self._scene.roll.path)}
        self._scene.configure(
            **{
                # "exit" keeps the shell from becoming the server.
                name: {"command": "sh", "args": ["-c", '"$@"; exit $?', "wrapper", *server],
                       "env": {**environment, "VERSION": str(version)}}
                for name, version in self._versions.items()
            }
        )  # fmt: skip

    def _call(self, slots: Any) -> None:
        wanted = list(slots)
        by_chat: dict[str, list[str]] = {}
        for chat, name in wanted:
            by_chat.setdefault(chat, []).append(name)

        def of_one(chat: str) -> None:
            for name in by_chat[chat]:
                text = self._scene.fake.talk(f'!call {name}.echo {{"n": 1}}', chat=chat, seconds=120.0)
                assert text == 'echo: {"n": 1}', text

        with ThreadPoolExecutor(AT_ONCE) as people:
            list(people.map(of_one, by_chat))
        self._live.update(wanted)

    def _check(self) -> None:
        """The kernel's count of processes by tag, for each session, and the workers' descriptors."""
        wanted = {chat: PROCESSES * sum(slot[0] == chat for slot in self._live) for chat in self._chats}
        found = dict.fromkeys(self._chats, 0)
        for pid in tagged(f"{self._scene.daemon.instance}-"):
            tag = tag_of(pid)
            for chat in self._chats:
                if tag.startswith(self._tags[chat]) and pid != self._pids[chat]:
                    found[chat] += 1
        # At once: a child has been forked when its server answers, and what was killed is gone when that is reported.
        assert found == wanted, f"processes of servers are {json.dumps(found)} instead of {json.dumps(wanted)}"
        called = len(self._scene.roll.alive())  # which also takes their calls: a server waits for a place in the queue
        assert called == CALLERS * len(self._live), f"{called} processes are connected for {len(self._live)} servers"
        self.checks += 1
        for chat in self._chats:
            if all((chat, name) in self._live for name in SERVERS):
                grew = _descriptors(self._pids[chat]) - self._descriptors[chat]
                self._grew = max(self._grew, grew)
                assert grew <= GREW, f"the worker of {chat} has {grew} descriptors more than at the start"

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._scene.daemon.ask("mcp.list", figures=False)["servers"]
        return rows

    def _row(self, chat: str, name: str) -> dict[str, Any]:
        key = self._scene.session(chat)
        return next(row for row in self._rows() if (row["session"], row["server"]) == (key, name))

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + SETTLED_SECONDS
        while not condition():
            assert time.monotonic() < until, f"not within {SETTLED_SECONDS:g} s: {self._rows()}"
            time.sleep(0.02)


def _descriptors(pid: int) -> int:
    return len(os.listdir(Path(f"/proc/{pid}/fd")))
