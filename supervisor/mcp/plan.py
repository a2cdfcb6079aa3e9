"""What another configuration means for the MCP servers that there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hermesd.ipc.mcp import ServerSpec


@dataclass(frozen=True, slots=True)
class Plan:
    """Names of servers. What is in none of them is not touched."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()  # their processes end, and the next call starts others
    adjusted: tuple[str, ...] = ()  # their processes go on: only what is done with them differs
    removed: tuple[str, ...] = ()


def plan(before: Iterable[ServerSpec], after: Iterable[ServerSpec]) -> Plan:
    """From the servers of one configuration to those of the next."""
    old, new = ({spec.name: spec for spec in specs} for specs in (before, after))
    differing = [name for name in new if name in old and new[name] != old[name]]
    return Plan(
        added=tuple(name for name in new if name not in old),
        replaced=tuple(name for name in differing if new[name].config != old[name].config),
        adjusted=tuple(name for name in differing if new[name].config == old[name].config),
        removed=tuple(name for name in old if name not in new),
    )
