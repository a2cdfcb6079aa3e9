"""The measurements by name, in the order of the table. Imported one by one: each brings what it measures."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from .effort import Effort, Say
from .row import Row

Measure = Callable[[Effort, Say], list[Row]]

MEASUREMENTS: dict[str, str] = {
    "start": "from the request for a worker to its hello",
    "memory": "memory of an idle session",
    "wake": "a session whose worker has hibernated, to the first piece of its answer",
    "llm-sessions": "memory and CPU of sessions with the agent llm",
    "one-process": "many sessions with llm, beside as many AIAgents of hermes-agent in one process",
    "hop": "a message to a worker and back, and messages a second",
    "journal": "journalled turns a second",
    "turns": "whole turns through a running hermesd",
    "neighbours": "what quiet sessions notice of one that spins, forks, allocates, logs or floods",
    "failing": "CPU of a message whose model answers with an error",
    "latency": "from a message in a chat to its answer, with hermes-agent",
    "status": "hermesctl status, as a program",
    "kill": "the end of a hostile tree of 100 processes",
    "usage": "one look at CPU and memory of 100 processes",
    "idle": "CPU time of a hermesd with nothing to do",
}


def measurement(name: str) -> Measure:
    return cast(Measure, import_module(f"harness.bench.{name.replace('-', '_')}").measure)
