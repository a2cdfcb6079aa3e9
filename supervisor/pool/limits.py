"""What a worker may use up before it is replaced or ended. Pure: figures in, a reason for people out.

Between two turns it is *recycled*: it ends politely and the next message starts another one, with the conversation.
During a turn it is only ended for what endangers others: memory, and far too many processes.
"""

from __future__ import annotations

from dataclasses import dataclass

TASKS_EACH = 4
"""Tasks that the kernel allows for each process of ``max_processes``: it counts threads too, and the limit itself is
looked at between turns. It is there so that a fork bomb ends with its own session."""


@dataclass(frozen=True, slots=True)
class Limits:
    """As configured under ``hermesd.workers``; bytes and seconds, 0 = none. ``turns``: of one worker in its life."""

    memory_soft: int = 0
    memory_hard: int = 0
    processes: int = 0
    age: float = 0.0
    turns: int = 0

    @property
    def tasks(self) -> int:
        """More than so many the kernel refuses."""
        return self.processes * TASKS_EACH


@dataclass(frozen=True, slots=True)
class Spent:
    """What a worker and all below it use now, and since it got its session. ``memory`` in bytes."""

    memory: int = 0
    processes: int = 0
    age: float = 0.0
    turns: int = 0


def worn(limits: Limits, spent: Spent) -> str:
    """Why this worker is to be recycled before its next turn; "" if it may have one more."""
    if limits.memory_soft and spent.memory > limits.memory_soft:
        return f"it used {size(spent.memory)} of memory, over memory_soft, which is {size(limits.memory_soft)}"
    if limits.processes and spent.processes > limits.processes:
        return f"it had {spent.processes} processes, over max_processes, which is {limits.processes}"
    if limits.turns and spent.turns >= limits.turns:
        return f"it has had {spent.turns} turns, which is max_turns_per_worker"
    if limits.age and spent.age >= limits.age:
        return f"it was {spent.age:.0f} s old, over max_age, which is {limits.age:g} s"
    return ""


def endangers(limits: Limits, spent: Spent) -> str:
    """Why this worker must end now, whatever it does; "" if it need not."""
    if limits.memory_hard and spent.memory > limits.memory_hard:
        return out_of_memory(limits)
    if limits.processes and spent.processes > limits.tasks:
        return f"it had {spent.processes} processes, over {TASKS_EACH} times max_processes, which is {limits.processes}"
    return ""


def out_of_memory(limits: Limits) -> str:
    """The reason of one that has come to ``memory_hard``, whoever saw it."""
    return f"it used more than {size(limits.memory_hard)} of memory, which is memory_hard"


def size(count: int) -> str:
    """``1.5G``, ``400M``."""
    unit, step = ("G", 1 << 30) if count >= 1 << 30 else ("M", 1 << 20)
    return f"{count / step:.1f}{unit}".replace(".0", "")
