"""The life of one MCP server of a worker, as a table.

A slot has at most one live generation. A process is replaced in one way only: killed, its container proved empty, and
then the next one is spawned. A server that did not start or that crashed is *broken*: its reason is kept, and the next
call tries again. Before any start the supervisor is asked, which keeps one restart budget over all sessions; a server
that it does not let start is *parked*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    STOPPED = "stopped"  # nothing runs
    ASKING = "asking"  # the supervisor is asked whether it may be started; nothing runs
    STARTING = "starting"  # spawned or about to be; the handshake is not finished
    READY = "ready"
    STOPPING = "stopping"  # the polite stop runs, which ends with an empty container
    EMPTYING = "emptying"  # it failed; what is left of it is being killed
    REPLACING = "replacing"  # as emptying, and the next generation starts at once
    BROKEN = "broken"  # nothing runs, and there is a reason
    PARKED = "parked"  # the same, and it may not be started yet


class Event(StrEnum):
    NEEDED = "needed"  # a call or a tool list wants it
    GRANTED = "granted"  # it may be started
    REFUSED = "refused"  # it may not
    LISTED = "listed"  # its tools are known, and nobody needs more
    CONNECTED = "connected"  # the handshake is finished and the tools are known
    FAILED = "failed"  # did not start
    PROBE_BROKE = "probe broke"  # died or hung at the question for the stateless revision
    DIED = "died"  # ended, or closed its output, when it was ready
    STOP = "stop"
    EMPTIED = "emptied"  # its container is over


class Action(StrEnum):
    ASK = "ask"  # ask the supervisor
    WITHDRAW = "withdraw"  # its answer is not needed any more
    SPAWN = "spawn"  # start the slot's new generation
    STOP_POLITELY = "stop politely"  # begin the escalation; ends with EMPTIED
    EMPTY = "empty"  # kill at once; ends with EMPTIED


_S, _E, _A = State, Event, Action

TABLE: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    (_S.STOPPED, _E.NEEDED): (_S.ASKING, (_A.ASK,)),
    (_S.STOPPED, _E.STOP): (_S.STOPPED, ()),
    (_S.ASKING, _E.NEEDED): (_S.ASKING, ()),
    (_S.ASKING, _E.GRANTED): (_S.STARTING, (_A.SPAWN,)),
    (_S.ASKING, _E.REFUSED): (_S.PARKED, ()),
    (_S.ASKING, _E.LISTED): (_S.STOPPED, ()),
    (_S.ASKING, _E.STOP): (_S.STOPPED, (_A.WITHDRAW,)),
    (_S.STARTING, _E.NEEDED): (_S.STARTING, ()),
    (_S.STARTING, _E.CONNECTED): (_S.READY, ()),
    (_S.STARTING, _E.FAILED): (_S.EMPTYING, (_A.EMPTY,)),
    (_S.STARTING, _E.PROBE_BROKE): (_S.REPLACING, (_A.EMPTY,)),
    (_S.STARTING, _E.STOP): (_S.STOPPING, (_A.STOP_POLITELY,)),
    (_S.READY, _E.NEEDED): (_S.READY, ()),
    (_S.READY, _E.DIED): (_S.EMPTYING, (_A.EMPTY,)),
    (_S.READY, _E.STOP): (_S.STOPPING, (_A.STOP_POLITELY,)),
    # Whoever needs it meanwhile waits for the end of the stop and asks again; so do the callers of EMPTYING.
    (_S.STOPPING, _E.NEEDED): (_S.STOPPING, ()),
    (_S.STOPPING, _E.CONNECTED): (_S.STOPPING, ()),
    (_S.STOPPING, _E.FAILED): (_S.STOPPING, ()),
    (_S.STOPPING, _E.PROBE_BROKE): (_S.STOPPING, ()),
    (_S.STOPPING, _E.DIED): (_S.STOPPING, ()),
    (_S.STOPPING, _E.STOP): (_S.STOPPING, ()),
    (_S.STOPPING, _E.EMPTIED): (_S.STOPPED, ()),
    (_S.EMPTYING, _E.NEEDED): (_S.EMPTYING, ()),
    (_S.EMPTYING, _E.STOP): (_S.EMPTYING, ()),
    (_S.EMPTYING, _E.EMPTIED): (_S.BROKEN, ()),
    (_S.REPLACING, _E.NEEDED): (_S.REPLACING, ()),
    (_S.REPLACING, _E.STOP): (_S.STOPPING, ()),
    (_S.REPLACING, _E.EMPTIED): (_S.STARTING, (_A.SPAWN,)),
    (_S.BROKEN, _E.NEEDED): (_S.ASKING, (_A.ASK,)),
    (_S.BROKEN, _E.STOP): (_S.BROKEN, ()),
    (_S.PARKED, _E.NEEDED): (_S.ASKING, (_A.ASK,)),
    (_S.PARKED, _E.STOP): (_S.PARKED, ()),
}

# States in which nothing of the server runs, and nothing is about to.
AT_REST = frozenset({State.STOPPED, State.BROKEN, State.PARKED})


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one server stands. ``generation`` counts spawns and names the container of the live one."""

    state: State = State.STOPPED
    generation: int = 0
    reason: str = ""  # why it failed last; cleared once it is ready


class ImpossibleEvent(Exception):
    """The table has no row for this; a fault of this program."""


def step(slot: Slot, event: Event, generation: int = 0, reason: str = "") -> tuple[Slot, tuple[Action, ...]]:
    """What becomes of the slot. Pure.

    ``generation`` is the one that an event tells about, 0 for those which come from outside. News of an
    older generation changes nothing. Raises `ImpossibleEvent` where the table has no row.
    """
    if generation and generation != slot.generation:
        return slot, ()
    try:
        state, actions = TABLE[slot.state, event]
    except KeyError:
        raise ImpossibleEvent(
            f"a slot that is {slot.state} cannot have {event} (generation {slot.generation})"
        ) from None
    if Action.SPAWN in actions:
        return Slot(state, slot.generation + 1, slot.reason), actions
    if state is State.READY:
        reason = ""
    else:
        reason = reason or slot.reason
    return replace(slot, state=state, reason=reason), actions
