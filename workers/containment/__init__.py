"""Containers of processes: everything a worker or an MCP server ever starts, measured and killed as one.

`choose` is for the keeper and for ``doctor``; `open_containment` for every process after it; `take` and `step_out` are
for the keeper that takes a dead one's workers over, and for the guard that outlives its keeper.
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable

from .ceiling import Ceiling, Ceilings
from .contract import Choice, Container, Containment, Entry, Leftover, Usage
from .errors import ContainmentError, LeftAlive, TagError, Unsupported
from .identity import Identity

__all__ = [
    "STRATEGIES",
    "Ceiling",
    "Ceilings",
    "Choice",
    "Container",
    "Containment",
    "ContainmentError",
    "Entry",
    "LeftAlive",
    "Leftover",
    "TagError",
    "Unsupported",
    "Usage",
    "choose",
    "open_containment",
    "step_out",
    "take",
]


def _probe_cgroup(instance: str) -> Containment:
    _need_system("linux")
    from . import cgroup

    return cgroup.probe(instance)


def _probe_subreaper(instance: str) -> Containment:
    _need_system("linux")
    from . import subreaper

    return subreaper.probe(instance)


def _probe_job(instance: str) -> Containment:
    _need_system("win32")
    raise Unsupported("this version of hermesd has no Job Object containment")


def _probe_pgroup(instance: str) -> Containment:
    from . import pgroup

    return pgroup.probe(instance)


def _need_system(name: str) -> None:
    if sys.platform != name:
        raise Unsupported("not this system")


# Strongest first.
STRATEGIES: dict[str, Callable[[str], Containment]] = {
    "cgroup": _probe_cgroup,
    "subreaper": _probe_subreaper,
    "job": _probe_job,
    "pgroup": _probe_pgroup,
}


def choose(instance: str, preference: str = "auto") -> Choice:
    """The strongest containment that this process can have, proved by trying; takes about 30 ms and leaves nothing.

    ``instance``: 12 hex digits. ``preference``: "auto", or the name of the one to use. Raises `ContainmentError` if
    the preferred one, or every one, is impossible; `Choice.refused` has the reason of each that was passed over.
    """
    if preference != "auto" and preference not in STRATEGIES:
        raise ContainmentError(f"cannot use containment {preference!r}: choose auto, {', '.join(STRATEGIES)}")
    refused: list[tuple[str, str]] = []
    for name, probe in STRATEGIES.items():
        if preference not in ("auto", name):
            continue
        try:
            return Choice(probe(instance), tuple(refused))
        except Unsupported as reason:
            refused.append((name, str(reason)))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused)
    if preference == "auto":
        raise ContainmentError(f"cannot contain processes on this system: {reasons}")
    raise ContainmentError(f"cannot use containment {reasons}")


def open_containment(name: str, instance: str, *, place: str = "", pid: int = 0) -> Containment:
    """The containment that a keeper has chosen, without trying it again. For worker and supervisor.

    With cgroups its directory is where the keeper made it. A worker finds that by itself, being in it, or gets it as
    ``place``: the directory of any of its containers. A supervisor gives the keeper's ``pid``, since it may have been
    started somewhere else than the keeper that it took over. Raises `ContainmentError`.
    """
    if name == "cgroup":
        from . import cgroup, naming

        wanted = naming.instance_name(instance)
        if place:
            head, found, _ = (place + "/").partition(f"/{wanted}/")
            if not found:
                raise ContainmentError(f"cannot open containment of {instance}: {place} is not below {wanted}")
            return cgroup.CgroupContainment(instance, posixpath.join(head, wanted))
        return cgroup.CgroupContainment(instance, cgroup.base_of(instance, pid or "self"))
    if name == "subreaper":
        from . import subreaper

        return subreaper.SubreaperContainment(instance)
    if name == "pgroup" and os.name == "posix":
        from . import pgroup

        return pgroup.GroupContainment(instance)
    raise ContainmentError(f"cannot open containment {name!r} on {sys.platform}")


def take(instance: str, worker: str, tag: str, root: Identity) -> Container:
    """The container of a worker whose keeper is dead, by the means that it was made with.

    ``root``: the worker's process, dead or alive. The caller is a keeper, and not the parent of anything in there.
    """
    if _is_linux():
        from . import cgroup, subreaper

        return cgroup.take(instance, worker, tag) or subreaper.take(instance, worker, tag, root)
    from . import pgroup

    container = pgroup.GroupContainment(instance).worker(worker, tag)
    container.started(root.pid)
    return container


def step_out(instance: str) -> None:
    """Move the calling process out of the instance's place, so that it can be removed. Raises `ContainmentError`."""
    if _is_linux():
        from . import cgroup

        cgroup.step_out(instance)


def _is_linux() -> bool:
    return sys.platform == "linux"
