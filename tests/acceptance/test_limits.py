"""Limits of a worker with a real hermesd: kept by the kernel where it may be told, and polled where not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.daemon import can_drop_privileges
from harness.scene import PROGRAMS, Scene

pytestmark = pytest.mark.slow

CHAT = "c1"
WORKERS = {"memory_soft": "200M", "memory_hard": "400M", "max_processes": 6}


@pytest.fixture(params=["as_root", "as_a_user"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Root may be able to make cgroups with controllers, an ordinary user is not."""
    as_a_user = request.param == "as_a_user"
    if as_a_user and not can_drop_privileges():
        pytest.skip("only root can start hermesd as another user")
    ours = {"agent": "wasteful:make", "agent_path": [str(PROGRAMS)], "workers": WORKERS}
    with Scene(ours=ours, unprivileged=as_a_user) as made:
        yield made.start()


def numbers(answer: str) -> tuple[int, int]:
    """How many turns the conversation has had, and which one of its process this was."""
    words = answer.split()
    return int(words[0]), int(words[3])


def test_a_worker_that_uses_too_much_is_replaced_or_ended_and_its_conversation_goes_on(scene: Scene) -> None:
    doctor = scene.daemon.ctl("doctor").stdout
    assert "memory_hard is " in doctor
    answers = [numbers(scene.fake.talk("leak 70", chat=CHAT)) for _ in range(4)]
    assert [before for before, _ in answers] == [0, 1, 2, 3]
    assert [own for _, own in answers] == [1, 2, 3, 1], "recycled when it was over memory_soft"

    told = scene.fake.talk("hog 500", chat=CHAT)
    assert "it used more than 400M of memory, which is memory_hard" in told
    assert numbers(scene.fake.talk("hello", chat=CHAT)) == (4, 1)

    assert numbers(scene.fake.talk("leave 7", chat=CHAT)) == (5, 2)
    assert numbers(scene.fake.talk("hello", chat=CHAT)) == (6, 1), "recycled for its processes"
    shown = scene.daemon.ctl("sessions", "show", CHAT).stdout
    assert "recycled: it had 8 processes, over max_processes, which is 6" in shown

    # A fork bomb is stopped by the kernel, which the agent notices, or by hermesd, which ends it.
    scene.fake.talk("leave 200", chat=CHAT)
    assert numbers(scene.fake.talk("hello", chat=CHAT))[0] in (7, 8)
