"""In which containers, and as whom, a promise must hold on this machine."""

from __future__ import annotations

import os
from typing import NamedTuple

from hermesd.workers import containment
from hermesd.workers.containment.errors import ContainmentError

from . import figures
from .daemon import can_drop_privileges


class Ground(NamedTuple):
    containment: str
    unprivileged: bool

    @property
    def name(self) -> str:
        return f"{self.containment}, {'ordinary user' if self.unprivileged else 'as this user'}"


def grounds() -> list[Ground]:
    """Every combination that this machine can show; an ordinary user can make no cgroup.

    Raises AssertionError where everything must run, root asks, and one of the three is missing.
    """
    found = [Ground("cgroup", False)] if _offers("cgroup") else []
    found.append(Ground("subreaper", False))
    if can_drop_privileges():
        found.append(Ground("subreaper", True))
    in_ci = os.environ.get("HERMESD_CI") == "1" or os.environ.get("CI") == "true"
    if in_ci and os.geteuid() == 0:
        names = ", ".join(ground.name for ground in found)
        assert len(found) == 3, f"only these grounds are here: {names}; cgroups need a writable v2, users need setpriv"
    return found


def grounds_of_round(seed: int) -> list[Ground]:
    """All of them in a soak; in the tests one, which the seed chooses: each costs a third of the case's time."""
    every = grounds()
    return every if figures.STRICT else [every[seed % len(every)]]


def _offers(name: str) -> bool:
    try:
        containment.choose("0" * 12, name)
    except ContainmentError:
        return False
    return True
