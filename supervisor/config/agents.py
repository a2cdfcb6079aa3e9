"""Whether ``hermesd.agent`` names an agent that can exist. Nothing of the agent is imported here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from importlib.machinery import PathFinder

from .errors import nearest

BUILT_IN = frozenset({"demo", "hermes", "llm"})

GROUP = "hermesd.agents"
"""The entry-point group in which other distributions offer agents by a short name."""


def why_not(name: str) -> tuple[str, str] | None:
    """What is wrong with a name that can be no agent, and what would be right; None for one that may be."""
    if ":" in name or name in BUILT_IN:
        return None
    offered = {point.name for point in importlib.metadata.entry_points(group=GROUP)}
    if name in offered:
        return None
    known = sorted(BUILT_IN | offered)
    fix = f"use {', '.join(known)} or package.module:factory"
    near = nearest(name, known)
    return f'"{name}" is no agent', f"did you mean {near}? {fix}" if near else f"{fix}, as in {name}:make"


def lacks_library(name: str) -> str:
    """What has to be installed beside hermesd for a built-in agent; "" if nothing has."""
    return "hermesd[llm]" if name == "llm" and importlib.util.find_spec("openai") is None else ""


def is_missing(name: str, agent_path: Sequence[str]) -> bool:
    """Whether the top module of a ``module:factory`` is nowhere to be found, in ``agent_path`` or beside hermesd."""
    top = name.partition(":")[0].partition(".")[0]
    if ":" not in name or PathFinder.find_spec(top, list(agent_path)) is not None:
        return False
    try:
        return importlib.util.find_spec(top) is None
    except (ImportError, ValueError):  # a finder of some package's own, or a module without a spec: it is there
        return False
