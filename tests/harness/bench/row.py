"""One line of the table: a figure of ours, and the same figure of what it is compared with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Series:
    """One way of doing it: one value for each run. ``notes``: what else it came to, such as survivors of a kill."""

    name: str
    values: Sequence[float]
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": list(self.values),
            "notes": dict(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """``measurement``: its name in the catalogue; ``lower_is_better`` as for times, else as for rates."""

    measurement: str
    title: str
    unit: str
    ours: Series
    baselines: Sequence[Series] = ()
    lower_is_better: bool = True

    @property
    def runs(self) -> int:
        return len(self.ours.values)

    def ratio(self, baseline: Series) -> float:
        """How many times better ours is; below 1 it is worse."""
        better, worse = (self.ours, baseline) if self.lower_is_better else (baseline, self.ours)
        return worse.median / better.median

    def as_json(self) -> dict[str, Any]:
        return {
            "measurement": self.measurement,
            "title": self.title,
            "unit": self.unit,
            "better": "lower" if self.lower_is_better else "higher",
            "runs": self.runs,
            "ours": self.ours.as_json(),
            "baselines": [{**baseline.as_json(), "ratio": self.ratio(baseline)} for baseline in self.baselines],
        }
