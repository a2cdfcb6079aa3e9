"""The supervisor's side of starts: what a worker that asks is answered, and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from hermesd.ipc.mcp import ServerSpec, ToolInfo, config_hash
from hermesd.ipc.messages import KnownTools, Listed, Message, ServerNews, ServerReport, StartAnswer, StartRequest
from hermesd.supervisor.mcp import servers as shell
from hermesd.supervisor.mcp.budget import State
from hermesd.supervisor.mcp.memory import Memory
from hermesd.supervisor.mcp.servers import McpServers
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks

TOOLS = (ToolInfo("t", "d", {}),)


class FakeWorker:
    def __init__(self, name: str) -> None:
        self.id = name
        self.servers: tuple[ServerReport, ...] = ()


class World:
    """One server, and workers that ask about it."""

    def __init__(self, path: Path) -> None:
        spec = ServerSpec("s", "run", connect_timeout=10.0)
        self.spec = replace(spec, config=config_hash(spec))
        self.sent: list[tuple[str, Message]] = []
        self.memory = Memory(path, Tasks(lambda name, error: None))
        self.mcp = McpServers(self.memory, lambda worker, message: self.sent.append((str(worker.id), message)))
        self.mcp.configure([self.spec])
        self.workers: dict[str, Worker] = {}
        self.requests = 0

    def worker(self, name: str) -> Worker:
        return self.workers.setdefault(name, cast(Worker, FakeWorker(name)))

    def ask(self, name: str, *, for_tools: bool = False, config: str = "") -> None:
        self.requests += 1
        request = StartRequest("s", config or self.spec.config, self.requests, for_tools)
        self.mcp.said(self.worker(name), request)

    def news(self, name: str, event: str, **more: Any) -> None:
        grant = more.pop("grant", self.budget.round)
        self.mcp.said(self.worker(name), ServerNews("s", self.spec.config, grant, event, **more))

    def listed(self, name: str) -> None:
        self.mcp.said(self.worker(name), Listed("s", self.spec.config, TOOLS))

    def answers(self) -> list[tuple[str, bool | int]]:
        """Who was answered since the last look: granted or not, or the number of tools."""
        answered: list[tuple[str, bool | int]] = []
        for name, message in self.sent:
            if isinstance(message, KnownTools):
                answered.append((name, len(message.tools)))
            else:
                assert isinstance(message, StartAnswer)
                answered.append((name, message.granted))
        self.sent.clear()
        return answered

    @property
    def budget(self) -> Any:
        entry = self.mcp.entry("s")
        assert entry is not None
        return entry.budget


def change_twice(world: World) -> None:
    """Two reloads, each of which has another server of the same name."""
    for argument in ("-v", "-w"):
        changed = replace(world.spec, args=(argument,))
        world.mcp.configure([replace(changed, config=config_hash(changed))])


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path / "mcp.json")


async def test_the_first_tries_and_the_others_wait_for_it(world: World) -> None:
    for name in "abc":
        world.ask(name)
    assert world.answers() == [("a", True)]
    world.news("a", "spawned")
    world.news("a", "ready")
    assert world.answers() == [("b", True), ("c", True)]
    world.ask("d")
    assert world.answers() == [("d", True)]
    assert world.budget.spawns == 1


async def test_when_the_try_fails_all_are_refused_with_reason_and_time(world: World) -> None:
    world.ask("a")
    world.ask("b")
    world.sent.clear()
    world.news("a", "failed", reason="it exited with status 1")
    ((name, message),) = world.sent
    assert name == "b"
    assert isinstance(message, StartAnswer)
    assert not message.granted
    assert message.reason == "it exited with status 1"
    assert message.next_try == world.budget.next_try
    world.sent.clear()
    world.ask("a")
    assert world.answers() == [("a", False)]


async def test_who_needs_the_list_only_gets_it_without_a_start(world: World) -> None:
    world.ask("a", for_tools=True)
    world.ask("b", for_tools=True)
    world.ask("c")
    assert world.answers() == [("a", True)], "nobody knows them yet"
    world.listed("a")
    world.news("a", "ready")
    assert world.answers() == [("b", 1), ("c", True)]
    world.ask("d", for_tools=True)
    assert world.answers() == [("d", 1)]


async def test_a_worker_that_ends_hands_its_try_on(world: World) -> None:
    for name in "abc":
        world.ask(name)
    world.sent.clear()
    world.mcp.gone(world.worker("b"))
    world.mcp.gone(world.worker("a"))
    assert world.answers() == [("c", True)]
    world.news("c", "withdrawn")
    world.ask("d")
    assert world.answers() == [("d", True)]


async def test_a_try_that_takes_too_long_is_handed_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "TRY_RESERVE", -20.0)
    world.ask("a")
    world.ask("b")
    await asyncio.sleep(0.01)
    assert ("b", True) in world.answers()


async def test_a_broken_probe_is_told_with_the_next_grant(world: World) -> None:
    world.ask("a")
    world.news("a", "probe_broke", reason="no idea what that is")
    world.news("a", "ready")
    world.sent.clear()
    world.ask("b")
    message = world.sent[-1][1]
    assert isinstance(message, StartAnswer)
    assert not message.probe


async def test_another_configuration_is_another_budget_and_the_former_serves_who_is_not_idle_yet(world: World) -> None:
    world.ask("a")
    world.news("a", "failed", reason="no such file", permanent=True)
    assert world.budget.state is State.PARKED
    former = world.spec
    changed = replace(former, args=("-v",))
    world.spec = replace(changed, config=config_hash(changed))
    world.mcp.configure([world.spec])
    assert world.budget.state is State.UNTRIED
    world.sent.clear()
    world.ask("a", config=former.config)
    world.ask("a", config="of long ago")
    world.ask("a")
    assert world.answers() == [("a", False), ("a", True), ("a", True)]
    world.mcp.configure([])
    assert world.mcp.entry("s") is None
    assert not world.mcp.pardon("s")


async def test_a_turn_that_outlives_several_changes_is_held_to_the_budget_it_began_with(world: World) -> None:
    first = world.spec
    world.ask("a")
    world.news("a", "failed", reason="no such file", permanent=True)
    change_twice(world)
    world.sent.clear()
    world.ask("a", config=first.config)
    assert world.answers() == [("a", False)]
    world.mcp.configure([first])
    assert world.budget.state is State.PARKED, "it is the server that it was"


async def test_whoever_waits_for_a_try_is_answered_although_the_configuration_has_changed_twice(world: World) -> None:
    first = world.spec
    world.ask("a")
    world.ask("b")
    change_twice(world)
    world.sent.clear()
    world.mcp.said(world.worker("a"), ServerNews("s", first.config, 0, "ready"))
    assert world.answers() == [("b", True)]


async def test_former_configurations_are_not_kept_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "FORMER", 1)
    first = world.spec
    world.ask("a")
    world.news("a", "failed", reason="no such file", permanent=True)
    change_twice(world)
    world.mcp.configure([first])
    assert world.budget.state is State.UNTRIED


async def test_nobody_waits_for_the_list_of_a_server_that_has_failed_before(world: World) -> None:
    assert world.mcp.standing("s") == shell.Standing()
    world.ask("a", for_tools=True)
    message = world.sent[-1][1]
    assert isinstance(message, StartAnswer)
    assert (message.granted, message.again) == (True, False)
    world.news("a", "failed", reason="exit 1")
    assert world.mcp.standing("s") == shell.Standing(None, "exit 1", due=False)
    world.mcp.entry("s").budget = replace(world.budget, next_try=0.0)  # type: ignore[union-attr]
    assert world.mcp.standing("s").due
    world.ask("a", for_tools=True)
    message = world.sent[-1][1]
    assert isinstance(message, StartAnswer)
    assert (message.granted, message.again) == (True, True)
    world.sent.clear()
    world.ask("b", for_tools=True)
    world.ask("c")
    assert world.answers() == [("b", False)], "who calls it waits for the try"
    assert world.mcp.standing("s") == shell.Standing(None, "exit 1", due=False)
    world.listed("a")
    world.news("a", "ready")
    assert world.mcp.standing("s") == shell.Standing(TOOLS)
    assert world.answers() == [("c", True)]


async def test_a_longer_time_out_keeps_what_is_known(world: World) -> None:
    world.ask("a")
    world.news("a", "failed", reason="exit 1")
    world.mcp.configure([replace(world.spec, timeout=9.0)])
    assert world.budget.state is State.BACKOFF


async def test_a_pardon_lets_the_next_try(world: World) -> None:
    world.ask("a")
    world.news("a", "failed", reason="no such file", permanent=True)
    assert world.mcp.pardon("s")
    world.sent.clear()
    world.ask("b")
    assert world.answers() == [("b", True)]


async def test_the_next_hermesd_knows_what_this_one_knew(world: World, tmp_path: Path) -> None:
    world.ask("a")
    world.listed("a")
    world.news("a", "failed", reason="no such file", permanent=True)
    world.memory.flush()
    after = World(tmp_path / "mcp.json")
    assert (after.budget.state, after.budget.reason) == (State.PARKED, "no such file")
    after.ask("a", for_tools=True)
    after.ask("a")
    assert after.answers() == [("a", 1), ("a", False)]


async def test_what_runs_in_a_worker_that_was_taken_over_is_known_to_start(world: World) -> None:
    worker = world.worker("a")
    worker.servers = (ServerReport("s", 1, "ready", config=world.spec.config),)
    world.mcp.taken_over(worker)
    assert world.budget.state is State.GOOD


@pytest.fixture(autouse=True)
def _no_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written by `flush` only, so that no timer outlives a test."""
    monkeypatch.setattr("hermesd.supervisor.mcp.memory.WRITE_AFTER", 3600.0)
