"""What the agent of ``programs/marking.py`` noted: when turns ran, seen from inside their workers."""

from __future__ import annotations

from pathlib import Path


def most_at_once(path: Path) -> int:
    """How many turns were running at the same time, at worst. Raises AssertionError for a turn without an end."""
    steps: list[tuple[float, int]] = []
    running: set[str] = set()
    for line in path.read_text("ascii").splitlines():
        at, what, turn = line.split()
        steps.append((float(at), 1 if what == "begin" else -1))
        running.symmetric_difference_update({turn})
    assert not running, f"these turns have begun and not ended: {running}"
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
