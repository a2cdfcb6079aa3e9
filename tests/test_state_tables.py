"""What must hold of every state table: nothing unreachable, nothing stuck, nothing decided that nobody does."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import pytest
from harness.machines import MACHINES, PICTURES, ROOT, Edge, Machine, document

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.title.replace(" ", "-"))


def reached(start: Iterable[StrEnum], edges: Iterable[Edge]) -> set[StrEnum]:
    edges = list(edges)
    seen = set(start)
    waiting = list(seen)
    while waiting:
        now = waiting.pop()
        for edge in edges:
            if edge.source is now and edge.target not in seen:
                seen.add(edge.target)
                waiting.append(edge.target)
    return seen


@every_machine
def test_every_state_can_be_reached(machine: Machine) -> None:
    assert set(machine.states) == reached([machine.first], machine.edges)


@every_machine
def test_every_state_can_come_to_rest(machine: Machine) -> None:
    stuck = [state for state in machine.states if not reached([state], machine.edges) & machine.at_rest]
    assert not stuck


@every_machine
def test_every_state_has_a_way_out_by_itself(machine: Machine) -> None:
    """Not only some step: the events that come unasked alone must lead from anywhere to where nothing is owed."""
    if machine.unasked is None:
        return
    unasked = [edge for edge in machine.edges if edge.event in machine.unasked and edge.source is not edge.target]
    for state in machine.states:
        if state in machine.at_rest:
            continue
        assert any(edge.source is state for edge in unasked), f"{state} waits for somebody"
        assert reached([state], unasked) & machine.at_rest, f"{state} never comes to rest by itself"


@every_machine
def test_no_event_leads_nowhere(machine: Machine) -> None:
    """Each event means something somewhere, and each edge ends in a state that has a row."""
    for event in machine.events:
        moves = [edge for edge in machine.edges if edge.event == event]
        assert any(edge.source is not edge.target or edge.actions for edge in moves), f"{event} never changes anything"
    assert {edge.target for edge in machine.edges} <= set(machine.states)


def test_every_state_has_a_row() -> None:
    from hermesd.supervisor.gateway import turn_life
    from hermesd.supervisor.journal import states
    from hermesd.supervisor.pool import worker_life
    from hermesd.workers.keeper import ward_life

    for table, kind in [
        (worker_life.TABLE, worker_life.State),
        (turn_life.TABLE, turn_life.State),
        (ward_life.TABLE, ward_life.State),
        (states.INBOX, states.InboxState),
        (states.TURN, states.TurnState),
        (states.OUTBOX, states.OutboxState),
    ]:
        assert set(table) == set(kind)


@pytest.mark.parametrize(
    "machine",
    [machine for machine in MACHINES if machine.performed_in],
    ids=lambda machine: machine.title.replace(" ", "-"),
)
def test_every_action_is_performed_and_every_case_is_an_action(machine: Machine) -> None:
    path, _, function = machine.performed_in.partition(":")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    (shell,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    cases = [
        part.value.attr
        for case in ast.walk(shell)
        if isinstance(case, ast.match_case)
        for part in ast.walk(case.pattern)
        if isinstance(part, ast.MatchValue) and isinstance(part.value, ast.Attribute)
    ]
    assert sorted(cases) == sorted(action.name for action in machine.actions)
    used = {action for edge in machine.edges for action in edge.actions}
    assert used == set(machine.actions), "an action that no cell asks for"


def test_every_table_of_the_tree_is_here() -> None:
    known = {machine.source for machine in MACHINES}
    found = set()
    for top in ("supervisor", "workers", "adapters", "ipc"):
        for path in (ROOT / top).rglob("*.py"):
            names = {
                target.id
                for node in ast.parse(path.read_text("utf-8")).body
                if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
            }
            source = path.read_text("utf-8")
            if (names & {"TABLE", "INBOX"} and "class State" in source) or "class InboxState" in source:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == known


def test_the_pictures_are_fresh() -> None:
    assert Path(PICTURES).read_text("utf-8") == document(), "run ./scripts/state-diagrams"
