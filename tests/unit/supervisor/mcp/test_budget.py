from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hermesd.supervisor.mcp import budget as rules
from hermesd.supervisor.mcp.budget import Action, Budget, State

NOW = 1_000_000.0


def fail(budget: Budget, now: float, chance: float = 0.0, **more: bool) -> Budget:
    """One session wants it, tries, and it does not start."""
    budget, actions = rules.wanted(budget, now)
    assert actions == (Action.GRANT,)
    return rules.failed(budget, budget.round, "exit 1", now, chance, is_the_try=True, **more)[0]


def crash(budget: Budget, now: float) -> Budget:
    budget, actions = rules.wanted(budget, now)
    assert actions == (Action.GRANT,)
    budget, _ = rules.ready(budget)
    return rules.crashed(budget, budget.round, "killed", now, 0.0)[0]


def test_one_session_tries_an_unknown_server_and_the_others_get_what_it_found() -> None:
    budget, actions = rules.wanted(Budget(), NOW)
    assert (budget.state, actions) == (State.TRYING, (Action.GRANT,))
    for _ in range(9):
        budget, actions = rules.wanted(budget, NOW)
        assert actions == (Action.WAIT,)
    good, actions = rules.ready(budget)
    assert (good.state, actions) == (State.GOOD, (Action.GRANT_WAITING,))
    assert rules.wanted(good, NOW)[1] == (Action.GRANT,)
    bad, actions = rules.failed(budget, budget.round, "exit 1", NOW, 0.0, is_the_try=True)
    assert (bad.state, bad.reason, actions) == (State.BACKOFF, "exit 1", (Action.REFUSE_WAITING,))


def test_each_failure_waits_longer_and_five_in_a_row_are_parked() -> None:
    budget, now, waits = Budget(), NOW, []
    for _ in range(6):
        budget = fail(budget, now)
        waits.append(budget.next_try - now)
        assert rules.wanted(budget, budget.next_try - 0.01)[1] == (Action.REFUSE,)
        now = budget.next_try
    assert waits == [1.0, 4.0, 16.0, 64.0, 300.0, 300.0]
    assert (budget.state, budget.failures) == (State.PARKED, 6)
    assert rules.sentence(budget) == "exit 1 (6 starts have failed in a row)"


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_never_starts_is_tried_at_most_eight_times_in_ten_minutes(seed: int) -> None:
    chance, budget, tries = random.Random(seed), Budget(), 0
    for second in range(600):  # a message a second
        now = NOW + second
        after, actions = rules.wanted(budget, now)
        if actions == (Action.GRANT,):
            tries += 1
            budget, _ = rules.failed(after, after.round, "exit 1", now, chance.random(), is_the_try=True)
    assert 5 <= tries <= 7  # and one process more for the question that may have broken the first
    assert budget.state is State.PARKED


def test_what_only_a_person_can_mend_is_parked_at_once() -> None:
    budget = fail(Budget(), NOW, permanent=True)
    assert (budget.state, budget.next_try - NOW) == (State.PARKED, rules.LONGEST)


def test_half_open_is_one_try_and_a_good_one_forgets_the_failures() -> None:
    budget = fail(fail(Budget(), NOW), NOW + 2)
    budget, actions = rules.wanted(budget, NOW + 10)
    assert (budget.state, actions) == (State.TRYING, (Action.GRANT,))
    assert rules.wanted(budget, NOW + 10)[1] == (Action.WAIT,)
    budget, _ = rules.ready(budget)
    assert (budget.state, budget.failures, budget.reason) == (State.GOOD, 0, "")
    assert fail_when_good(budget).next_try - NOW - 20 == 1.0


def fail_when_good(budget: Budget) -> Budget:
    return rules.failed(budget, budget.round, "exit 1", NOW + 20, 0.0)[0]


def test_a_try_that_ends_without_a_result_is_the_next_ones() -> None:
    budget = fail(Budget(), NOW)
    budget, _ = rules.wanted(budget, NOW + 5)
    budget, actions = rules.given_up(budget)
    assert (budget.state, budget.failures, actions) == (State.UNTRIED, 1, (Action.NEXT,))


def test_three_crashes_are_free_and_the_next_ones_wait() -> None:
    budget, now = Budget(), NOW
    waits = []
    for _ in range(9):
        budget = crash(budget, now)
        waits.append(budget.next_try - now)
        now = budget.next_try + 1
    assert waits == [0.0, 0.0, 0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 300.0]
    assert (budget.state, budget.crashes, budget.failures) == (State.PARKED, 9, 0)
    assert rules.sentence(budget) == "killed (9 crashes in a row)"


def test_a_crash_after_a_quiet_minute_is_the_first_again() -> None:
    budget = Budget()
    for number in range(4):
        budget = crash(budget, NOW + number)
    assert budget.state is State.BACKOFF
    assert crash(budget, NOW + 3 + 61.0).crashes == 5, "the wait itself is no quiet"
    assert crash(budget, NOW + 3 + 62.5).crashes == 1


def test_what_falls_together_counts_once() -> None:
    """Fifty sessions had it running, and a person has killed them all."""
    budget, _ = rules.ready(rules.wanted(Budget(), NOW)[0])
    granted_in = budget.round
    for _ in range(50):
        budget, _ = rules.crashed(budget, granted_in, "killed", NOW, 0.0)
    assert (budget.crashes, budget.state) == (1, State.GOOD)
    for _ in range(50):
        budget, _ = rules.failed(budget, granted_in, "exit 1", NOW, 0.0)
    assert (budget.failures, budget.state) == (0, State.GOOD)


def test_the_try_counts_whatever_fell_meanwhile() -> None:
    budget = fail(Budget(), NOW)
    budget, _ = rules.wanted(budget, NOW + 2)
    granted_in = budget.round
    budget, _ = rules.crashed(budget, granted_in, "another session's, started before", NOW + 2, 0.0)
    assert budget.state is State.TRYING
    budget, _ = rules.failed(budget, granted_in, "exit 1", NOW + 3, 0.0, is_the_try=True)
    assert (budget.state, budget.failures) == (State.BACKOFF, 2)


def test_a_pardon_tries_at_once_and_leaves_what_is_good_alone() -> None:
    parked = fail(Budget(), NOW, permanent=True)
    budget, _ = rules.pardoned(parked)
    assert (budget.state, budget.failures, budget.reason) == (State.UNTRIED, 0, "")
    assert rules.wanted(budget, NOW)[1] == (Action.GRANT,)
    good, _ = rules.ready(rules.wanted(Budget(), NOW)[0])
    assert rules.pardoned(good)[0].state is State.GOOD


def test_a_clock_that_was_set_back_keeps_nobody_parked() -> None:
    budget = fail(Budget(), NOW, permanent=True)
    assert rules.wanted(budget, NOW - 7200)[1] == (Action.GRANT,)


def test_the_wait_is_jittered_by_a_fifth_at_most() -> None:
    assert fail(Budget(), NOW, 1.0).next_try - NOW == pytest.approx(0.8)


@pytest.mark.parametrize("state", State)
def test_every_state_takes_a_want_and_what_running_servers_do(state: State) -> None:
    budget = replace(Budget(), state=state, next_try=NOW + 10)
    rules.wanted(budget, NOW)
    rules.wanted(budget, NOW + 20)
    rules.ready(budget)
    rules.failed(budget, 0, "", NOW, 0.0)
    rules.crashed(budget, 0, "", NOW, 0.0)
    rules.pardoned(budget)
