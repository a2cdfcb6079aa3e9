"""What of the configuration the sessions at work go by."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hermesd.supervisor.pool.limits import Limits

from .time_limits import TimeLimits


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Times in seconds. ``reap`` is what a stopping worker has before it is killed."""

    max_workers: int
    max_turns: int
    idle_timeout: float
    on_crash: str
    turn_timeout: float
    stop_grace: float
    work_dir: Path
    agent_settings: dict[str, Any]
    agent_config: dict[str, Any] = field(default_factory=dict, repr=False)  # of a built-in agent; goes with each turn
    limits: Limits = field(default_factory=Limits)  # of each worker
    quiet_timeout: float = 0.0  # a turn whose agent shows nothing for so long is ended; 0: never
    quiet_warning: float = 0.0  # and its user is told after so long; 0: never

    @property
    def time_limits(self) -> TimeLimits:
        return TimeLimits(self.turn_timeout, self.quiet_timeout, self.quiet_warning)

    @property
    def reap(self) -> float:
        return 2.0 * self.stop_grace + 1.0
