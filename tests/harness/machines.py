"""Every state table of the tree in one shape, and its picture; ``python -m harness.machines`` writes them all."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from hermesd.supervisor.gateway import turn_life
from hermesd.supervisor.journal import states
from hermesd.supervisor.mcp import budget
from hermesd.supervisor.platforms import connection_life
from hermesd.supervisor.pool import worker_life
from hermesd.workers.keeper import guard_life, ward_life
from hermesd.workers.mcp import slot

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "states.md"

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Edge:
    """``event`` "" where a table knows steps only, as the journal's do."""

    source: StrEnum
    target: StrEnum
    event: str = ""
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """``at_rest``: states in which nothing is owed to anybody. ``unasked``: events that come without a person, because
    a timer runs out, a process ends or another machine goes on; each other state needs one that leads out of it.
    """

    title: str
    source: str
    states: tuple[StrEnum, ...]
    first: StrEnum
    at_rest: frozenset[StrEnum]
    edges: tuple[Edge, ...]
    events: tuple[StrEnum, ...] = ()
    unasked: Mapping[StrEnum, str] | None = None
    performed_in: str = ""  # file and function with a case for each action
    actions: tuple[StrEnum, ...] = ()


def of_steps(table: Mapping[S, Iterable[S]]) -> tuple[Edge, ...]:
    return tuple(Edge(now, then) for now, row in table.items() for then in type(now) if then in row)


WORKER, TURN, WARD, SLOT = worker_life.Event, turn_life.Event, ward_life.Event, slot.Event
GUARD, CONNECTION, BUDGET = guard_life.Event, connection_life.Event, budget.Event

MACHINES = (
    Machine(
        title="A session's worker",
        source="supervisor/pool/worker_life.py",
        states=tuple(worker_life.State),
        first=worker_life.State.HIBERNATED,
        at_rest=frozenset({worker_life.State.HIBERNATED}),
        edges=tuple(
            Edge(now, step.state, event, tuple(step.actions))
            for now, row in worker_life.TABLE.items()
            for event, step in row.items()
        ),
        events=tuple(WORKER),
        unasked={
            WORKER.CRASHED: "the process ends",
            WORKER.CRASHED_OFTEN: "the process ends",
            WORKER.ENDED: "the process ends, killed after a timer if it must be",
            WORKER.TIMER: "the state's timer",
            WORKER.HIBERNATE: "the idle timer",
        },
        performed_in="supervisor/gateway/lanes.py:_act",
        actions=tuple(worker_life.Action),
    ),
    Machine(
        title="A turn",
        source="supervisor/gateway/turn_life.py",
        states=tuple(turn_life.State),
        first=turn_life.State.QUEUED,
        at_rest=turn_life.ENDED,
        edges=tuple(Edge(now, then, event) for now, row in turn_life.TABLE.items() for event, then in row.items()),
        events=tuple(TURN),
        unasked={
            TURN.DISPATCH: "the router, whenever a slot or a process place becomes free",
            TURN.WORKER_GONE: "the worker's process ends",
            TURN.WORKER_LOST: "the worker's process ends",
            TURN.POISONOUS: "the worker's process ends",
            TURN.ANSWERED: "the question's timer",
        },
    ),
    Machine(
        title="A worker in its keeper's eyes",
        source="workers/keeper/ward_life.py",
        states=tuple(ward_life.State),
        first=ward_life.State.RUNNING,
        at_rest=frozenset({ward_life.State.OVER}),
        edges=tuple(Edge(now, then, event) for now, row in ward_life.TABLE.items() for event, then in row.items()),
        events=tuple(WARD),
        unasked={
            WARD.EXITED: "the process ends",
            WARD.DUMP_TIME_OVER: "the timer of the dump",
            WARD.EMPTIED: "the rounds of killing, which the keeper's loop repeats until nothing is left",
        },
    ),
    Machine(
        title="A keeper's guard",
        source="workers/keeper/guard_life.py",
        states=tuple(guard_life.State),
        first=guard_life.State.WATCHING,
        at_rest=frozenset({guard_life.State.OVER}),
        edges=tuple(Edge(now, then, event) for now, row in guard_life.TABLE.items() for event, then in row.items()),
        events=tuple(GUARD),
        unasked={
            GUARD.LOCK_HELD: "a look at the lock",
            GUARD.SUCCEEDED: "a look at the lock and at the list of keepers",
            GUARD.LOCK_FREE: "a look at the lock",
            GUARD.TIME_OVER: "so many looks at the lock",
            GUARD.CLEAN: "the rounds of killing",
        },
    ),
    Machine(
        title="An MCP server of a worker",
        source="workers/mcp/slot.py",
        states=tuple(slot.State),
        first=slot.State.STOPPED,
        at_rest=slot.AT_REST,
        edges=tuple(Edge(now, then, event, tuple(actions)) for (now, event), (then, actions) in slot.TABLE.items()),
        events=tuple(SLOT),
        unasked={
            SLOT.GRANTED: "the supervisor's answer",
            SLOT.REFUSED: "the supervisor's answer",
            SLOT.LISTED: "the supervisor's answer",
            SLOT.FAILED: "the time for the handshake, or the process ends",
            SLOT.PROBE_BROKE: "the time for the probe, or the process ends",
            SLOT.DIED: "the process ends",
            SLOT.EMPTIED: "the escalation's timers, then the kill",
        },
        performed_in="workers/mcp/server.py:_act",
        actions=tuple(slot.Action),
    ),
    Machine(
        title="The restart budget of an MCP server over all sessions",
        source="supervisor/mcp/budget.py",
        states=tuple(budget.State),
        first=budget.State.UNTRIED,
        at_rest=frozenset({budget.State.UNTRIED, budget.State.GOOD, budget.State.BACKOFF, budget.State.PARKED}),
        edges=tuple(Edge(now, then, event, tuple(actions)) for (now, event), (then, actions) in budget.TABLE.items()),
        events=tuple(BUDGET),
        unasked={
            BUDGET.READY: "the server that is tried",
            BUDGET.FAILED: "the time for the handshake, or the process ends",
            BUDGET.GIVEN_UP: "the lease's timer, or the worker ends",
        },
        performed_in="supervisor/mcp/servers.py:_act",
        actions=tuple(budget.Action),
    ),
    Machine(
        title="A platform's connection",
        source="supervisor/platforms/connection_life.py",
        states=tuple(connection_life.State),
        first=connection_life.State.STOPPED,
        at_rest=frozenset(
            {
                connection_life.State.STOPPED,
                connection_life.State.ONLINE,
                connection_life.State.PAUSED,
                connection_life.State.UNAVAILABLE,
            }
        ),
        edges=tuple(
            Edge(now, step.state, event, tuple(step.actions))
            for now, row in connection_life.TABLE.items()
            for event, step in row.items()
        ),
        events=tuple(CONNECTION),
        unasked={
            CONNECTION.STARTED: "the adapter's start returns",
            CONNECTION.FAILED: "the adapter's start fails, or takes too long",
            CONNECTION.TIMER: "the state's timer",
        },
        performed_in="supervisor/platforms/connection.py:_act",
        actions=tuple(connection_life.Action),
    ),
    Machine(
        title="A message of a user, on disk",
        source="supervisor/journal/states.py",
        states=tuple(states.InboxState),
        first=states.InboxState.RECEIVED,
        at_rest=frozenset(states.INBOX_ENDED),
        edges=of_steps(states.INBOX),
    ),
    Machine(
        title="A turn, on disk",
        source="supervisor/journal/states.py",
        states=tuple(states.TurnState),
        first=states.TurnState.QUEUED,
        at_rest=frozenset(states.TURN_ENDED),
        edges=of_steps(states.TURN),
    ),
    Machine(
        title="A message to a chat, on disk",
        source="supervisor/journal/states.py",
        states=tuple(states.OutboxState),
        first=states.OutboxState.PENDING,
        at_rest=frozenset(states.OUTBOX_ENDED),
        edges=of_steps(states.OUTBOX),
    ),
)


def picture(machine: Machine) -> str:
    """A Mermaid state diagram. What changes neither the state nor anything else is left out."""

    def name(state: StrEnum) -> str:
        return state.value.replace(" ", "_")

    labels: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for edge in machine.edges:
        if edge.source is edge.target and not edge.actions and edge.event:
            continue
        label = labels.setdefault((edge.source, edge.target), [])
        if edge.event:
            doing = f" / {', '.join(edge.actions)}" if edge.actions else ""
            label.append(f"{edge.event}{doing}")
    lines = ["stateDiagram-v2", f"    [*] --> {name(machine.first)}"]
    for (source, target), label in labels.items():
        lines.append(f"    {name(source)} --> {name(target)}" + (f" : {'<br>'.join(label)}" if label else ""))
    ends = [state for state in machine.states if not any(edge.source is state for edge in machine.edges)]
    lines += [f"    {name(state)} --> [*]" for state in ends]
    return "\n".join(lines)


def document() -> str:
    """The whole of ``docs/states.md``."""
    parts = [
        "# State machines",
        "Drawn by `./scripts/state-diagrams` from the tables in the code; a test fails when they differ. An edge is"
        " labelled `event / actions`; events that change nothing are left out.",
    ]
    for machine in MACHINES:
        parts += [f"## {machine.title}", f"`{machine.source}`", f"```mermaid\n{picture(machine)}\n```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURES.parent.mkdir(exist_ok=True)
    PICTURES.write_text(document(), "utf-8")
    sys.stderr.write(f"wrote {PICTURES}\n")
