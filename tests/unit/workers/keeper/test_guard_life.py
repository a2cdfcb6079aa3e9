from __future__ import annotations

import pytest

from hermesd.workers.keeper.guard_life import TABLE, Event, Seen, State, Watch
from hermesd.workers.patience import LONGEST_LOOK, LOOK_EVERY

FREE = Seen(lock_held=False, other_keeper=False)
HELD = Seen(lock_held=True, other_keeper=False)
SUCCEEDED = Seen(lock_held=True, other_keeper=True)
TIMEOUT = 2.0


def after(*looks: Seen, start: float = 100.0, step: float = LOOK_EVERY) -> Watch:
    watch = Watch()
    for number, seen in enumerate(looks):
        watch = watch.look(seen, start + number * step, TIMEOUT)
    return watch


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ((HELD,), State.BRIDGING),
        ((FREE,), State.COUNTING),
        ((SUCCEEDED,), State.OVER),
        ((HELD, HELD, HELD), State.BRIDGING),
        ((HELD, SUCCEEDED), State.OVER),
        ((HELD, FREE), State.COUNTING),
        ((FREE, HELD), State.BRIDGING),
        ((FREE, SUCCEEDED), State.OVER),
    ],
)
def test_what_it_sees_decides(looks: tuple[Seen, ...], state: State) -> None:
    assert after(*looks).state is state


def test_a_lock_that_is_free_for_longer_than_the_time_ends_everything() -> None:
    looks = int(TIMEOUT / LOOK_EVERY) + 1
    assert after(*[FREE] * looks).state is State.COUNTING
    assert after(*[FREE] * (looks + 1)).state is State.KILLING


def test_a_hermesd_in_between_begins_the_count_anew() -> None:
    half = [FREE] * int(TIMEOUT / LOOK_EVERY)
    assert after(*half, HELD, *half).state is State.COUNTING


def test_another_keeper_without_a_hermesd_is_no_reason_to_leave() -> None:
    orphaned = Seen(lock_held=False, other_keeper=True)
    assert after(*[orphaned] * (int(TIMEOUT / LOOK_EVERY) + 2)).state is State.KILLING


def test_a_pause_of_its_own_counts_for_one_look() -> None:
    watch = after(FREE).look(FREE, 100.0 + 3600.0, TIMEOUT)
    assert (watch.state, watch.free.lasted) == (State.COUNTING, LONGEST_LOOK)


def test_without_any_time_the_second_look_decides() -> None:
    watch = Watch().look(FREE, 1.0, 0.0)
    assert watch.state is State.COUNTING
    assert watch.look(FREE, 1.25, 0.0).state is State.KILLING


def test_a_hermesd_that_starts_while_it_kills_stops_it() -> None:
    killing = Watch(State.KILLING)
    assert killing.look(HELD, 1.0, TIMEOUT).state is State.BRIDGING
    assert killing.look(SUCCEEDED, 1.0, TIMEOUT).state is State.OVER
    assert killing.look(FREE, 1.0, TIMEOUT).state is State.KILLING
    assert killing.clean().state is State.OVER


def test_only_what_was_killed_can_be_clean() -> None:
    with pytest.raises(KeyError):
        Watch(State.COUNTING).clean()
    assert TABLE[State.OVER] == {}
    assert [state for state, row in TABLE.items() if Event.CLEAN in row] == [State.KILLING]
