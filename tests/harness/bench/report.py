"""The rows as a table for people and as JSON, with the machine they were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from harness.containment import grounds

from .row import Row, Series

SCHEMA = 1


def machine() -> dict[str, Any]:
    """What a figure depends on. ``load_before``: runnable processes over the last minute, ours not among them yet."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "pyzmq": metadata.version("pyzmq"),
        "sqlite": sqlite3.sqlite_version,
        "containments": sorted({ground.containment for ground in grounds()}),
        "started_at": time.time(),
    }


def as_json(rows: Sequence[Row], machine: dict[str, Any], took: float) -> dict[str, Any]:
    return {"schema": SCHEMA, "machine": machine, "took_s": round(took, 1), "rows": [row.as_json() for row in rows]}


def as_table(rows: Sequence[Row], machine: dict[str, Any], took: float) -> str:
    lines = [
        f"{machine['system']}, {machine['cpus']} CPUs, load {machine['load_before']} before",
        f"Python {machine['python']}, pyzmq {machine['pyzmq']}, SQLite {machine['sqlite']}; measured in {took:.0f} s",
        "median [least .. most]; the last column says how many times better ours is",
    ]
    width = max((len(name) for row in rows for name in _names(row)), default=0)
    for row in rows:
        best = "less" if row.lower_is_better else "more"
        lines += ["", f"{row.title}: {row.unit}, {best} is better, {row.runs} run{'s' if row.runs > 1 else ''}"]
        space = max(len(_notes(series)) for series in (row.ours, *row.baselines))
        lines.append(_line(row.ours, width, space).rstrip())
        lines += [f"{_line(baseline, width, space)} {row.ratio(baseline):>8.2f} x" for baseline in row.baselines]
    return "\n".join(lines)


def _names(row: Row) -> list[str]:
    return [series.name for series in (row.ours, *row.baselines)]


def _line(series: Series, width: int, space: int) -> str:
    span = f"[{_figure(min(series.values))} .. {_figure(max(series.values))}]"
    return f"  {series.name:<{width}} {_figure(series.median):>8}  {span:<20} {_notes(series):<{space}}"


def _notes(series: Series) -> str:
    return ", ".join(f"{_figure(value)} {name}" for name, value in series.notes.items())


def _figure(value: float) -> str:
    """Three digits that mean something."""
    if value == 0 or value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
