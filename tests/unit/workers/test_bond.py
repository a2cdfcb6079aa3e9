from __future__ import annotations

from hermesd.workers.bond import RENEW_EVERY, Bond, Verdict
from hermesd.workers.patience import LONGEST_LOOK, LOOK_EVERY, Stretch

GO_ON, WIND_UP, END = Verdict.GO_ON, Verdict.WIND_UP, Verdict.END


def orphan(adopt_timeout: float = 2.0) -> Bond:
    bond = Bond(adopt_timeout)
    bond.keeper_died()
    return bond


def verdicts(bond: Bond, seconds: float, heard_every: float = 0.0, start: float = 0.0) -> list[Verdict]:
    """Looks for so long; the supervisor is heard every so often, 0 = never."""
    found = []
    for number in range(int(seconds / LOOK_EVERY) + 1):
        now = start + number * LOOK_EVERY
        heard = now // heard_every * heard_every if heard_every else None
        found.append(bond.look(heard, now))
    return found


def test_with_a_keeper_no_silence_matters() -> None:
    assert set(verdicts(Bond(0.0), 60.0)) == {GO_ON}


def test_without_it_the_watchdog_is_wound_up_once_and_silence_ends_the_worker() -> None:
    found = verdicts(orphan(), 2.0)
    assert found[0] is WIND_UP
    assert set(found[1:-1]) == {GO_ON}
    assert found[-1] is END


def test_a_supervisor_that_speaks_keeps_it_and_winds_the_watchdog_up_at_most_every_second() -> None:
    found = verdicts(orphan(), 60.0, heard_every=LOOK_EVERY)
    assert END not in found
    assert found.count(WIND_UP) <= 60.0 / RENEW_EVERY + 1
    assert found.count(WIND_UP) >= 60.0 / RENEW_EVERY / 2


def test_a_supervisor_that_falls_silent_leaves_the_whole_time_again() -> None:
    bond = orphan()
    verdicts(bond, 5.0, heard_every=0.5)
    found = [bond.look(5.0, 5.0 + number * LOOK_EVERY) for number in range(1, 20)]
    assert found.index(END) == int(2.0 / LOOK_EVERY) - 1


def test_another_keeper_ends_the_count() -> None:
    bond = orphan()
    verdicts(bond, 1.5)
    bond.kept()
    assert set(verdicts(bond, 10.0, start=1.5)) == {GO_ON}
    bond.keeper_died()
    assert verdicts(bond, 1.5, start=20.0)[0] is WIND_UP


def test_without_any_time_it_ends_with_its_keeper() -> None:
    assert orphan(0.0).look(None, 1.0) is END


def test_a_pause_of_its_own_is_not_the_supervisors_silence() -> None:
    bond = orphan()
    bond.look(None, 0.0)
    assert bond.look(None, 3600.0) is GO_ON


def test_a_stretch_counts_a_gap_for_one_look() -> None:
    stretch = Stretch().look(1.0)
    assert stretch.lasted == 0.0
    assert stretch.look(1.25).lasted == 0.25
    assert stretch.look(100.0).lasted == LONGEST_LOOK
    assert stretch.look(0.5).lasted == 0.0, "a clock that is set back"
