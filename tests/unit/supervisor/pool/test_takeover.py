from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hermesd.adapters.contract import Delivery, Inbound, Target
from hermesd.ipc.keeping import Held, KeeperReady
from hermesd.supervisor.instance.keepers import KeeperRecord
from hermesd.supervisor.journal.rows import InboxRow, Origin, SessionRow, WorkerRow
from hermesd.supervisor.journal.states import InboxState
from hermesd.supervisor.journal.workers import Estate
from hermesd.supervisor.pool.launchers.claiming import Claimed, Claims
from hermesd.supervisor.pool.takeover import Fate, fate, survey
from hermesd.workers.containment.identity import start_ticks
from hermesd.workers.containment.tag import make_tag

INSTANCE = "0123456789ab"
SESSION = SessionRow("s1", "k1", Origin("fake", "c1"), 1.0, 1.0)
ROW = WorkerRow("w1", "k1", "s1", "w1.x", make_tag(INSTANCE), "subreaper", "", "proof", "", 10, 1.0, 20, 200)


@pytest.mark.parametrize(
    ("held", "lives", "wanted", "expected"),
    [
        (True, True, True, Fate.HELD),
        (True, False, True, Fate.HELD),  # its end will be told by its keeper
        (True, True, False, Fate.UNWANTED),
        (True, False, False, Fate.UNWANTED),
        (False, True, True, Fate.ORPHANED),
        (False, True, False, Fate.UNWANTED),
        (False, False, True, Fate.GONE),
        (False, False, False, Fate.GONE),
    ],
)
def test_what_becomes_of_a_worker(held: bool, lives: bool, wanted: bool, expected: Fate) -> None:
    assert fate(held=held, lives=lives, wanted=wanted) is expected


@pytest.fixture
def claims() -> Iterator[Claims]:
    ours, theirs = socket.socketpair()
    ready = KeeperReady(10, 100, "1", "subreaper", (), True, workers=(Held("w1", ROW.tag, 20, 200),), guard=11)
    made = Claims([Claimed(KeeperRecord(10, 100, "/s", "x"), ready, ours, os.dup(ours.fileno()))])
    yield made
    made.close()
    theirs.close()


@pytest.fixture
def living() -> Iterator[WorkerRow]:
    """A worker whose keeper is dead: a process with its tag."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        env={"HERMESD_TAG": ROW.tag}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        yield replace(ROW, pid=child.pid, start_ticks=start_ticks(child.pid) or 0)


def test_a_worker_that_its_keeper_holds_is_taken_over_with_it(claims: Claims) -> None:
    found = survey([Estate(ROW, SESSION, None)], claims, INSTANCE)
    (heir,) = found.heirs
    assert (heir.pid, heir.start_ticks, heir.claimed) == (20, 200, claims.held[0])
    assert (found.unwanted, found.over) == ((), ())
    assert found.spare == {10, 11, 20}


@pytest.mark.parametrize(
    "estate",
    [
        Estate(replace(ROW, ephemeral=True), SESSION, None),
        Estate(ROW, None, None),
        Estate(replace(ROW, tag=make_tag(INSTANCE)), SESSION, None),
    ],
    ids=["the caller of a stateless session is gone", "its session was reset", "the name is another worker's by now"],
)
def test_one_that_nobody_waits_for_is_ended_by_its_keeper(claims: Claims, estate: Estate) -> None:
    found = survey([estate], claims, INSTANCE)
    assert found.heirs == ()
    assert found.unwanted == ((claims.held[0], "w1"),)
    assert found.over == ("w1",)


def test_a_spare_is_not_on_disk_and_is_ended(claims: Claims) -> None:
    assert survey([], claims, INSTANCE).unwanted == ((claims.held[0], "w1"),)


def test_one_whose_keeper_is_dead_is_known_by_its_process(living: WorkerRow) -> None:
    found = survey([Estate(living, SESSION, None)], Claims(), INSTANCE)
    (heir,) = found.heirs
    assert (heir.pid, heir.claimed) == (living.pid, None)
    assert living.pid in found.spare


@pytest.mark.parametrize("wrong", [{"start_ticks": 1}, {"tag": make_tag(INSTANCE)}, {"pid": 0}])
def test_another_process_of_its_pid_is_not_taken_for_it(living: WorkerRow, wrong: dict[str, object]) -> None:
    found = survey([Estate(replace(living, **wrong), SESSION, None)], Claims(), INSTANCE)  # type: ignore[arg-type]
    assert (found.heirs, found.over, found.spare) == ((), ("w1",), frozenset())


def test_one_whose_keeper_was_told_to_leave_is_gone(living: WorkerRow) -> None:
    found = survey([Estate(living, SESSION, None)], Claims(leaving=[living.keeper]), INSTANCE)
    assert (found.heirs, found.over, found.spare) == ((), ("w1",), frozenset())


def test_a_worker_for_one_request_goes_on_where_that_needs_no_caller(claims: Claims) -> None:
    inbound = Inbound("hook", "c1", "m1", "u", "push", history=(), delivery=Delivery(Target("fake", "ops")))
    message = InboxRow(1, inbound, 1.0, InboxState.ACCEPTED, 1.0, "k1", "t1", "w1")
    row = replace(ROW, ephemeral=True)
    assert [heir.pid for heir in survey([Estate(row, SESSION, message)], claims, INSTANCE).heirs] == [20]
    answered = replace(message, inbound=replace(inbound, delivery=None))
    for estate in (Estate(row, SESSION, answered), Estate(row, SESSION, None)):
        assert survey([estate], claims, INSTANCE).heirs == ()
