"""One number says how long a stop may take; every other deadline of a stop is derived from it, in strict order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopBudget:
    """Seconds. ``worker_grace`` < ``drain`` < ``watchdog`` < ``unit``, each counted from its own start.

    * ``worker_grace``: one worker, from its Stop message to the kill: closing the agent and its MCP servers.
    * ``drain``: running turns, from the signal until the last worker must be gone.
    * ``watchdog``: from the signal to the end of the process, whatever hangs.
    * ``unit``: what the service manager must allow (TimeoutStopSec), so that it never has to kill.
    """

    worker_grace: float
    drain: float
    watchdog: float
    unit: float

    @property
    def turns(self) -> float:
        """How long running turns may go on before their workers are told to stop."""
        return self.drain - self.worker_grace


def derive(stop_budget: float) -> StopBudget:
    """``stop_budget`` in seconds is the watchdog: hermesd has ended by then. Raises ValueError below 2."""
    if not 2 <= stop_budget < float("inf"):
        raise ValueError(f"a stop budget must be at least 2 seconds, not {stop_budget}")
    return StopBudget(
        worker_grace=min(10.0, stop_budget * 0.25),
        drain=stop_budget - min(5.0, stop_budget * 0.2),
        watchdog=stop_budget,
        unit=stop_budget + max(5.0, stop_budget * 0.1),
    )
