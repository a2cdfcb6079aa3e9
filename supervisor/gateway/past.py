"""Which lanes need not be kept, and the little about them that outlives them.

A session whose worker has hibernated is on disk: its conversation, its messages, its place. The next message makes its
lane anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hermesd.ipc.ids import SessionKey
from hermesd.supervisor.pool import worker_life

from .lane import Lane

KEPT = 1000
"""Sessions without a lane of which is known how their workers ended."""


@dataclass(frozen=True, slots=True)
class Past:
    """What there is to tell about the workers of a session, in this life of hermesd."""

    restarts: int = 0
    last_end: str = ""


def is_over(lane: Lane, now: float) -> bool:
    """Whether nothing is left in a lane that is not on disk; ``now`` in monotonic seconds.

    A stateless session's is not for this: it ends with its reply, on disk too. Crashes of the last minute are kept, for
    quarantine counts them.
    """
    return (
        lane.life is worker_life.State.HIBERNATED
        and not lane.ephemeral
        and lane.worker is None
        and lane.current is None
        and not (lane.queue or lane.steering or lane.held or lane.restarting)
        and (lane.starting is None or lane.starting.done())
        and not lane.crashes.count(now)
    )


class Pasts:
    """Owned by `Lanes`: of lanes that were forgotten, the latest `KEPT`."""

    def __init__(self) -> None:
        self._pasts: OrderedDict[SessionKey, Past] = OrderedDict()

    def take_from(self, lanes: dict[SessionKey, Lane], now: float) -> bool:
        """Forget the lanes that are over. True: one is only kept for its crashes, and has to be looked at later."""
        for lane in [lane for lane in lanes.values() if is_over(lane, now)]:
            lane.cancel_timer()
            self.keep(lane)
            del lanes[lane.key]
        return any(lane.life is worker_life.State.HIBERNATED and lane.crashes.times for lane in lanes.values())

    def keep(self, lane: Lane) -> None:
        """The lane is being forgotten."""
        if lane.restarts or lane.last_end:
            self._pasts[lane.key] = Past(lane.restarts, lane.last_end)
            self._pasts.move_to_end(lane.key)
            if len(self._pasts) > KEPT:
                self._pasts.popitem(last=False)

    def of(self, key: SessionKey) -> Past:
        return self._pasts.get(key, Past())
