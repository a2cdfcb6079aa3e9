"""Limits of a worker with a real hermesd: kept by the kernel where it may be told, and polled where not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import can_drop_privileges, turn_runs
from harness.running import wait_until
from harness.scene import PROGRAMS, Scene

from hermesd.workers.containment import cgroupfs

pytestmark = pytest.mark.slow

CHAT = "c1"
WORKERS = {"memory_soft": "200M", "memory_hard": "400M", "max_processes": 6}
KERNEL, POLLED = "kernel", "polled"

POLLED_TEXT = "polled every 250 ms while a turn runs, for no cgroup with that controller can be made here"
WAYS = {"kept by the kernel (cgroup v1)": KERNEL, "kept by the kernel (cgroup v2)": KERNEL, POLLED_TEXT: POLLED}


@pytest.fixture(params=["as_root", "as_a_user"])
def unprivileged(request: pytest.FixtureRequest) -> bool:
    """Root may be able to make cgroups with controllers, an ordinary user is not."""
    as_a_user: bool = request.param == "as_a_user"
    if as_a_user and not can_drop_privileges():
        pytest.skip("only root can start hermesd as another user")
    return as_a_user


@contextmanager
def wasteful(workers: dict[str, Any], *, unprivileged: bool = False) -> Iterator[Scene]:
    ours = {"agent": "wasteful:make", "agent_path": [str(PROGRAMS)], "workers": workers}
    with Scene(ours=ours, unprivileged=unprivileged) as made:
        yield made.start()


def numbers(answer: str) -> tuple[int, int]:
    """How many turns the conversation has had, and which one of its process this was."""
    words = answer.split()
    return int(words[0]), int(words[3])


def pid_of(answer: str) -> int:
    return int(answer.split()[-1])


def told_ways(scene: Scene) -> tuple[str, str]:
    """Who keeps memory and processes, as ``doctor`` tells it in the one sentence that it has for that."""
    (told,) = [one["message"] for one in scene.daemon.ask("doctor")["findings"] if one["id"] == "limits"]
    for memory in WAYS:
        for tasks in WAYS:
            if told == (
                f"memory_hard is {memory}; processes during a turn are {tasks}; memory_soft, max_processes, max_age "
                "and max_turns_per_worker are looked at between turns; turn_timeout, hang_timeout and idle_timeout are "
                "polled by hermesd"
            ):
                return memory, tasks
    raise AssertionError(told)


def possible(controller: str, *, unprivileged: bool) -> set[str]:
    """What may be told of a controller here, found without the code that chooses."""
    if unprivileged:
        return {POLLED_TEXT}
    mounts = cgroupfs.parse_mounts(Path("/proc/self/mountinfo").read_text(), controller)
    if os.geteuid() == 0 and mounts:
        return {"kept by the kernel (cgroup v1)"}
    return {"kept by the kernel (cgroup v2)", POLLED_TEXT}


def kills_by_the_kernel() -> int:
    """For want of memory, since the machine has started."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def ended_by_hermesd(scene: Scene, reason: str) -> bool:
    return f"is ended: {reason}" in (scene.daemon.home / "hermesd/logs/hermesd.log").read_text()


def test_a_worker_that_uses_too_much_is_replaced_or_ended_and_its_conversation_goes_on(*, unprivileged: bool) -> None:
    with wasteful(WORKERS, unprivileged=unprivileged) as scene:
        memory, tasks = told_ways(scene)
        assert memory in possible("memory", unprivileged=unprivileged)
        assert tasks in possible("pids", unprivileged=unprivileged)
        answers = [numbers(scene.fake.talk("leak 70", chat=CHAT)) for _ in range(4)]
        assert [before for before, _ in answers] == [0, 1, 2, 3]
        assert [own for _, own in answers] == [1, 2, 3, 1], "recycled when it was over memory_soft"

        killed = kills_by_the_kernel()
        told = scene.fake.talk("hog 500", chat=CHAT)
        reason = "it used more than 400M of memory, which is memory_hard"
        assert reason in told
        assert ended_by_hermesd(scene, reason) is (WAYS[memory] == POLLED)
        if WAYS[memory] == KERNEL:
            # The kernel adds up what its processors have counted once a second.
            wait_until(lambda: kills_by_the_kernel() > killed, what="the kernel counts a kill")
        assert numbers(scene.fake.talk("hello", chat=CHAT)) == (4, 1)

        assert numbers(scene.fake.talk("leave 7", chat=CHAT)) == (5, 2)
        assert numbers(scene.fake.talk("hello", chat=CHAT)) == (6, 1), "recycled for its processes"
        shown = scene.daemon.ctl("sessions", "show", CHAT).stdout
        assert "recycled: it had 8 processes, over max_processes, which is 6" in shown

        # A fork bomb is stopped by the kernel, which the agent notices, or by hermesd, which ends it.
        told = scene.fake.talk("flood 200", chat=CHAT)
        assert ("Resource temporarily unavailable" in told) is (WAYS[tasks] == KERNEL), told
        assert ("over 4 times max_processes, which is 6" in told) is (WAYS[tasks] == POLLED), told
        assert numbers(scene.fake.talk("hello", chat=CHAT))[0] in (7, 8)


def test_a_shared_server_that_uses_too_much_is_replaced_or_ended_and_the_next_call_answered(
    *, unprivileged: bool
) -> None:
    workers = {"memory_soft": "150M", "memory_hard": "300M"}
    with Scene(ours={"workers": workers}, unprivileged=unprivileged) as scene:
        if unprivileged:
            scene.roll.path.chmod(0o777)
        scene.configure(one={**scene.hostile("be_plain"), "scope": "host"})
        scene.start()

        def use(mib: int, seconds: int = 0) -> str:
            return scene.fake.talk(f"!call one.use {json.dumps({'mib': mib, 'seconds': seconds})}", chat=CHAT)

        first = pid_of(use(1))
        assert pid_of(use(200)) == first, "nothing is ended during a call"
        wait_until(lambda: first not in scene.roll.alive(), what="the server is over memory_soft and is retired")
        second = pid_of(use(1))
        assert second != first
        told = use(400, 60)
        assert "'one' ended during the call" in told
        assert "it used more than 300M of memory, which is memory_hard" in told
        assert pid_of(use(1)) not in (first, second)


def test_age_and_number_of_turns_replace_a_worker_between_two_turns_and_never_during_one() -> None:
    with wasteful({"max_age": "2s"}) as scene:
        message = scene.fake.say("rest 2.5", chat=CHAT)
        wait_until(lambda: any(turn_runs(row) for row in scene.daemon.workers()), what="it has begun")
        began_in = scene.worker(CHAT)["pid"]
        answer = scene.fake.final(message, chat=CHAT)["text"]
        assert (numbers(answer), pid_of(answer)) == ((0, 1), began_in), "it ends where it began"
        wait_until(lambda: not scene.daemon.workers())
        assert "recycled: it was " in scene.daemon.ctl("sessions", "show", CHAT).stdout
        scene.configure_ours(workers={"max_turns_per_worker": 3})
        assert scene.daemon.ctl("reload").returncode == 0
        answers = [scene.fake.talk("hello", chat=CHAT) for _ in range(4)]
        assert [numbers(one) for one in answers] == [(1, 1), (2, 2), (3, 3), (4, 1)]
        assert len({began_in, *map(pid_of, answers)}) == 3
        shown = scene.daemon.ctl("sessions", "show", CHAT).stdout
        assert "recycled: it has had 3 turns, which is max_turns_per_worker" in shown
