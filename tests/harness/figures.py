"""Times of many rounds in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Seconds to milliseconds: median, p99, and worst."""
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50_ms": round(quantile(values, 0.5) * 1000, 2),
        "p99_ms": round(quantile(values, 0.99) * 1000, 2),
        "max_ms": round(max(values) * 1000, 2),
    }


STRICT = False
"""Set by ``scripts/soak``. Tests share their machine with anything, a soak is run to be believed."""


def allowed(promised: float, on_a_busy_machine: float) -> float:
    """The limit for a time: what is promised, or, in tests, also what this machine needs at the moment."""
    return promised if STRICT else max(promised, on_a_busy_machine)
