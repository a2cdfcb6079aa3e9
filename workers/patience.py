"""How long something has lasted, by repeated looks. Pure.

A process that was stopped, swapped out or on a machine that slept finds a jump of its clock at the next look. What it
waits for may have had no chance to come in that time either, so such a gap counts for one look only.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOK_EVERY = 0.25
"""Seconds between two looks of whoever waits."""

LONGEST_LOOK = 2 * LOOK_EVERY
"""What the time between two looks counts for at most."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of waiting; a new one begins with ``Stretch()``."""

    lasted: float = 0.0
    looked: float | None = None  # monotonic seconds

    def look(self, now: float) -> Stretch:
        """To be called at least every `LOOK_EVERY` seconds."""
        gap = 0.0 if self.looked is None else now - self.looked
        return Stretch(self.lasted + min(max(gap, 0.0), LONGEST_LOOK), now)
