from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from hermesd.supervisor.errors import StartFailed
from hermesd.supervisor.pool.launchers import roster
from hermesd.supervisor.pool.launchers.roster import Roster, delay
from hermesd.workers.spec import WorkerSpec


class Played:
    """A launcher that the test plays."""

    containment = "pgroup"
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    start_ticks = 0
    started_at = 0.0

    def __init__(self, pid: int, fails: bool):
        self.pid = pid
        self.fails = fails
        self.state = "starting"
        self.calls: list[str] = []

    async def start(self) -> None:
        if self.fails:
            raise StartFailed("no room")
        self.state = "running"

    def launch(self, spec: WorkerSpec) -> None: ...

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None: ...

    def kill(self, worker: str, *, dump: bool = False) -> None: ...

    async def stop(self, timeout: float) -> None:
        self.calls.append("stop")

    def leave_alone(self) -> None:
        self.calls.append("leave_alone")


class Scene:
    def __init__(self) -> None:
        self.made: list[Played] = []
        self.failing = 0
        self.ups = 0
        self.given_up: list[str] = []
        self.roster = Roster(self._make, self._up, self.given_up.append)

    def _make(self) -> Played:
        fails = bool(self.made) and self.failing > 0
        self.failing -= fails
        self.made.append(Played(len(self.made) + 1, fails))
        return self.made[-1]

    def _up(self) -> None:
        self.ups += 1

    async def die(self, launcher: Played) -> None:
        launcher.state = "gone"
        self.roster.died(launcher, "killed")
        if (task := self.roster._replacing) is not None:
            await asyncio.wait([task])


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(roster, "FIRST_DELAY", 0.0)
    made = Scene()
    await made.roster.start()
    return made


def test_each_failure_in_a_row_is_waited_for_longer() -> None:
    times = [delay(failures) for failures in range(12)]
    assert times[0] == 0.0
    assert all(later > earlier or later == roster.MAX_DELAY for earlier, later in pairwise(times))
    assert times[-1] == roster.MAX_DELAY


async def test_another_one_takes_the_place_of_a_dead_one(scene: Scene) -> None:
    await scene.die(scene.made[0])
    assert scene.roster.own is scene.made[1]
    assert scene.ups == 1
    assert not scene.given_up


async def test_three_failed_starts_within_a_minute_are_the_end(scene: Scene) -> None:
    scene.failing = 3
    await scene.die(scene.made[0])
    assert len(scene.made) == 4
    assert scene.given_up == ["killed; no other could be started: no room"]
    assert scene.ups == 0


async def test_two_failed_starts_are_not(scene: Scene) -> None:
    scene.failing = 2
    await scene.die(scene.made[0])
    assert scene.roster.own is scene.made[3]
    assert not scene.given_up
    scene.failing = 2
    await scene.die(scene.made[3])
    assert scene.roster.own is scene.made[6], "what failed before a start that succeeded does not count"


async def test_one_of_an_earlier_hermesd_is_forgotten_and_not_replaced(scene: Scene) -> None:
    other = Played(99, fails=False)
    scene.roster.adopted.append(other)
    assert scene.roster.get(99) is other
    await scene.die(other)
    assert scene.roster.all == [scene.made[0]]
    assert len(scene.made) == 1


async def test_a_close_ends_all_of_them_and_what_was_being_started(scene: Scene) -> None:
    other = Played(99, fails=False)
    scene.roster.adopted.append(other)
    scene.made[0].state = "gone"
    scene.roster.died(scene.made[0], "killed")
    await scene.roster.close(1.0)
    assert other.calls == ["stop"]
    assert scene.ups == 0


@pytest.mark.parametrize(("end_own", "own"), [(True, ["stop"]), (False, ["leave_alone"])])
async def test_those_that_hold_workers_are_left_alone(scene: Scene, end_own: bool, own: list[str]) -> None:
    other = Played(99, fails=False)
    scene.roster.adopted.append(other)
    await scene.roster.leave_alone(end_own, 1.0)
    assert scene.made[0].calls == own
    assert other.calls == ["leave_alone"]
