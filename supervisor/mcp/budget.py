"""How often an MCP server may be started, over all sessions that have it, as a table. Pure.

One budget per server and configuration. As long as it is not known to start, one session tries and the others wait for
what comes of it; a server that fails is left alone for a while, longer each time, and then one session starts it once
(half-open): a fresh process, never a question to an old one. Starts that fail and crashes are counted apart, for a
server that starts and dies is another trouble than one that never starts. What a tool answers counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

FIRST_DELAY = 1.0
FACTOR = 4.0
LONGEST = 300.0
"""Seconds of the first wait, what each next one is multiplied by, and of a parked server. Steep: most failures pass at
once or not at all, and each try of the second kind costs as much as a working start."""

JITTER = 0.2
"""Share of a wait that chance may take off, so that servers which fell together are not started together."""

PARK_AFTER = 5
"""Starts in a row that failed, or crashes beyond `FREE_CRASHES`: more is not expected of the next ones either."""

FREE_CRASHES = 3
"""Crashes in a row that cost no wait: whoever uses the server needs it now, and most crash once."""

QUIET_SECONDS = 60.0
"""Without a crash, besides the wait that the last one cost: then the next is the first again."""


class State(StrEnum):
    """The words that ``hermesctl mcp list`` shows."""

    UNTRIED = "untried"  # whether it starts is not known
    TRYING = "trying"  # one session starts it, and who else needs it waits
    GOOD = "good"  # it starts; every session may
    BACKOFF = "backoff"  # it failed, and is tried again soon
    PARKED = "parked"  # it failed often, or will do so until somebody mends something; tried again rarely


class Event(StrEnum):
    """What happens to a server, in any session."""

    WANTED = "wanted"  # a session needs it
    DUE = "due"  # the same, and the time of the next try has come
    READY = "ready"
    FAILED = "failed"  # it does not start
    FAILED_OFTEN = "failed_often"  # the same, `PARK_AFTER` times in a row, or with no hope
    CRASHED_OFTEN = "crashed_often"  # it ended when it was ready, more than `FREE_CRASHES` times in a row
    CRASHED_ON = "crashed_on"  # the same, and waiting has not helped `PARK_AFTER` times
    GIVEN_UP = "given_up"  # the session that tried it has stopped to, or is gone
    PARDON = "pardon"  # a person said: try again


class Action(StrEnum):
    GRANT = "grant"  # to the session that asks
    WAIT = "wait"  # it gets its answer when the try has ended
    REFUSE = "refuse"
    GRANT_WAITING = "grant waiting"
    REFUSE_WAITING = "refuse waiting"
    NEXT = "next"  # the first that waits tries


_S, _E, _A = State, Event, Action

TABLE: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    (_S.UNTRIED, _E.WANTED): (_S.TRYING, (_A.GRANT,)),
    (_S.UNTRIED, _E.READY): (_S.GOOD, (_A.GRANT_WAITING,)),
    (_S.UNTRIED, _E.FAILED): (_S.BACKOFF, (_A.REFUSE_WAITING,)),
    (_S.UNTRIED, _E.FAILED_OFTEN): (_S.PARKED, (_A.REFUSE_WAITING,)),
    (_S.UNTRIED, _E.CRASHED_OFTEN): (_S.BACKOFF, (_A.REFUSE_WAITING,)),
    (_S.UNTRIED, _E.CRASHED_ON): (_S.PARKED, (_A.REFUSE_WAITING,)),
    (_S.UNTRIED, _E.GIVEN_UP): (_S.UNTRIED, ()),
    (_S.UNTRIED, _E.PARDON): (_S.UNTRIED, ()),
    (_S.TRYING, _E.WANTED): (_S.TRYING, (_A.WAIT,)),
    (_S.TRYING, _E.READY): (_S.GOOD, (_A.GRANT_WAITING,)),
    (_S.TRYING, _E.FAILED): (_S.BACKOFF, (_A.REFUSE_WAITING,)),
    (_S.TRYING, _E.FAILED_OFTEN): (_S.PARKED, (_A.REFUSE_WAITING,)),
    (_S.TRYING, _E.CRASHED_OFTEN): (_S.BACKOFF, (_A.REFUSE_WAITING,)),
    (_S.TRYING, _E.CRASHED_ON): (_S.PARKED, (_A.REFUSE_WAITING,)),
    (_S.TRYING, _E.GIVEN_UP): (_S.UNTRIED, (_A.NEXT,)),
    (_S.TRYING, _E.PARDON): (_S.TRYING, ()),
    (_S.GOOD, _E.WANTED): (_S.GOOD, (_A.GRANT,)),
    (_S.GOOD, _E.READY): (_S.GOOD, ()),
    (_S.GOOD, _E.FAILED): (_S.BACKOFF, ()),
    (_S.GOOD, _E.FAILED_OFTEN): (_S.PARKED, ()),
    (_S.GOOD, _E.CRASHED_OFTEN): (_S.BACKOFF, ()),
    (_S.GOOD, _E.CRASHED_ON): (_S.PARKED, ()),
    (_S.GOOD, _E.GIVEN_UP): (_S.GOOD, ()),
    (_S.GOOD, _E.PARDON): (_S.GOOD, ()),
}
for _waits in (_S.BACKOFF, _S.PARKED):
    TABLE |= {
        (_waits, _E.WANTED): (_waits, (_A.REFUSE,)),
        (_waits, _E.DUE): (_S.TRYING, (_A.GRANT,)),
        (_waits, _E.READY): (_S.GOOD, ()),  # a session had been granted it before the failure
        (_waits, _E.FAILED): (_waits, ()),
        (_waits, _E.FAILED_OFTEN): (_S.PARKED, ()),
        (_waits, _E.CRASHED_OFTEN): (_waits, ()),
        (_waits, _E.CRASHED_ON): (_S.PARKED, ()),
        (_waits, _E.GIVEN_UP): (_waits, ()),
        (_waits, _E.PARDON): (_S.UNTRIED, ()),
    }

WAITING = frozenset({State.BACKOFF, State.PARKED})


@dataclass(frozen=True, slots=True)
class Budget:
    """Where one server stands over all sessions. Times in Unix seconds: people are told them, and they outlive hermesd.

    ``round`` counts the failures that were taken into account; a grant carries it, so that of all that was started
    before one failure only the first to fail counts.
    """

    state: State = State.UNTRIED
    spawns: int = 0  # processes
    failures: int = 0  # starts in a row that failed
    crashes: int = 0  # in a row
    reason: str = ""  # of the last failure
    next_try: float = 0.0
    crashed_at: float = 0.0
    round: int = 0
    probe: bool = True  # it does not mind the question for the stateless revision


class ImpossibleEvent(Exception):
    """The table has no row for this; a fault of this program."""


def wanted(budget: Budget, now: float) -> tuple[Budget, tuple[Action, ...]]:
    """A session needs the server."""
    return _step(budget, Event.DUE if is_due(budget, now) else Event.WANTED)


def is_due(budget: Budget, now: float) -> bool:
    """It has failed, and the time of the next try has come."""
    # A clock that was set back must not keep a server parked for longer than one that was not.
    return budget.state in WAITING and not now < budget.next_try <= now + LONGEST


def half_open(budget: Budget) -> bool:
    """It has failed and is tried again: there is little hope, and nobody should wait who can do without."""
    return budget.state is State.TRYING and (budget.failures > 0 or budget.crashes > FREE_CRASHES)


def ready(budget: Budget) -> tuple[Budget, tuple[Action, ...]]:
    """A session has started it."""
    return _step(replace(budget, failures=0, reason=""), Event.READY)


def failed(
    budget: Budget,
    granted_in: int,
    reason: str,
    now: float,
    chance: float,
    *,
    permanent: bool = False,
    is_the_try: bool = False,
) -> tuple[Budget, tuple[Action, ...]]:
    """A start has failed. ``granted_in``: the round of its grant; ``chance``: 0..1; ``permanent``: nothing but a person
    will change that; ``is_the_try``: the one that others wait for.
    """
    if granted_in < budget.round and not is_the_try:
        return budget, ()
    failures = budget.failures + 1
    often = permanent or failures >= PARK_AFTER
    wait = _jittered(LONGEST if often else delay(failures), chance)
    counted = replace(budget, failures=failures, reason=reason, next_try=now + wait, round=budget.round + 1)
    return _step(counted, Event.FAILED_OFTEN if often else Event.FAILED)


def crashed(
    budget: Budget, granted_in: int, reason: str, now: float, chance: float
) -> tuple[Budget, tuple[Action, ...]]:
    """A server that was ready has ended. Arguments as of `failed`."""
    if granted_in < budget.round:
        return budget, ()
    last_wait = max(0.0, budget.next_try - budget.crashed_at)
    in_a_row = now - budget.crashed_at <= QUIET_SECONDS + last_wait
    crashes = budget.crashes + 1 if in_a_row else 1
    beyond = crashes - FREE_CRASHES
    wait = 0.0
    if beyond > 0:
        wait = _jittered(LONGEST if beyond > PARK_AFTER else delay(beyond), chance)
    counted = replace(
        budget, crashes=crashes, reason=reason, crashed_at=now, next_try=now + wait, round=budget.round + 1
    )
    if beyond <= 0:
        return counted, ()
    return _step(counted, Event.CRASHED_ON if beyond > PARK_AFTER else Event.CRASHED_OFTEN)


def given_up(budget: Budget) -> tuple[Budget, tuple[Action, ...]]:
    """Nothing will come of the try that is under way."""
    return _step(budget, Event.GIVEN_UP)


def pardoned(budget: Budget) -> tuple[Budget, tuple[Action, ...]]:
    """Forget what was held against it."""
    forgotten = replace(budget, failures=0, crashes=0, crashed_at=0.0, next_try=0.0, reason="", probe=True)
    return _step(forgotten, Event.PARDON)


def delay(failures: int) -> float:
    """Seconds to wait after so many in a row.

    >>> [delay(number) for number in (1, 2, 3, 4, 9)]
    [1.0, 4.0, 16.0, 64.0, 300.0]
    """
    return min(LONGEST, FIRST_DELAY * FACTOR ** min(max(0, failures - 1), 16))


def sentence(budget: Budget) -> str:
    """Why the server is not started, for people and models."""
    count = f"{budget.crashes} crashes" if budget.crashes > FREE_CRASHES and not budget.failures else ""
    count = count or (f"{budget.failures} starts have failed" if budget.failures > 1 else "")
    return f"{budget.reason} ({count} in a row)" if count else budget.reason


def _jittered(seconds: float, chance: float) -> float:
    return seconds * (1.0 - JITTER * chance)


def _step(budget: Budget, event: Event) -> tuple[Budget, tuple[Action, ...]]:
    try:
        state, actions = TABLE[budget.state, event]
    except KeyError:
        raise ImpossibleEvent(f"a server that is {budget.state} cannot have {event}") from None
    return replace(budget, state=state), actions
