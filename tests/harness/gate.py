"""A turn that ends when the test lets it, and not after some seconds: what must come before its end does."""

from __future__ import annotations

from pathlib import Path

from .scene import PROGRAMS

GATED = {"agent": "gated:make", "agent_path": [str(PROGRAMS)]}
"""What goes under ``hermesd:``: the demo agent, which understands `Gate.text` besides."""


class Gate:
    """``text`` is what a person says; ``ANSWER`` comes once it is open. ``place``: a directory of the test's own."""

    ANSWER = "The gate is open."

    def __init__(self, place: Path):
        self._path = place / "gate"
        self.text = f"!until {self._path}"

    def open(self) -> None:
        self._path.touch()
