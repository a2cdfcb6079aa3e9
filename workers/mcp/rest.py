"""When a server that nobody calls is ended, so that it costs nothing until it is needed again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hermesd.ipc.mcp import ServerSpec

LISTED_SECONDS = 30.0
"""A process that was started for its list of tools, and is not called so long, has done what it was started for."""


@dataclass(frozen=True, slots=True)
class Times:
    """Of a process without a call in flight. Monotonic seconds."""

    ready_at: float
    used_at: float  # the end of its last call, or when it became ready
    called: bool  # it has had one


def rest_reason(spec: ServerSpec, times: Times, now: float) -> str:
    """Why it is to be ended now; "" if it is not."""
    if spec.max_lifetime and now >= times.ready_at + spec.max_lifetime:
        return f"it is older than {spec.max_lifetime:g} s (max_lifetime)"
    if spec.idle_timeout and now >= times.used_at + spec.idle_timeout:
        return f"it was not called for {spec.idle_timeout:g} s (idle_timeout)"
    if not times.called and now >= times.ready_at + LISTED_SECONDS:
        return "it was needed for its list of tools only"
    return ""


def next_look(spec: ServerSpec, times: Times) -> float | None:
    """When `rest_reason` may say something else, if nobody calls it; None: never."""
    moments = []
    if spec.max_lifetime:
        moments.append(times.ready_at + spec.max_lifetime)
    if spec.idle_timeout:
        moments.append(times.used_at + spec.idle_timeout)
    if not times.called:
        moments.append(times.ready_at + LISTED_SECONDS)
    return min(moments, default=None)
