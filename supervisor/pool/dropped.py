"""What was dropped at the pool's door: counted for ``status`` and ``doctor``, and told in the log."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from hermesd.ipc.errors import PeerError

from .worker import Worker

log = logging.getLogger("hermesd.pool")

_TOLD = frozenset({1, 10, 100, 1000})
"""Which of a worker's unreadable frames are worth a line."""


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """For ``hermesctl status``."""

    foreign_frames: int  # of nobody whom this hermesd knows
    refused_hellos: int  # under a worker's name, without its token
    refused_keys: int  # over TCP
    peer_errors: int  # what is no frame of the wire
    false_claims: int  # of a worker, for a session that is not its own; it was ended for the first

    intruded_at: float  # Unix time of the last of what no worker of ours does by mistake: hellos, keys, claims; or 0


class Dropped:
    """The counters. Belongs to the pool."""

    def __init__(self) -> None:
        self._foreign_frames = self._refused_hellos = self._refused_keys = 0
        self._peer_errors = self._false_claims = 0
        self._intruded_at = 0.0

    def counts(self) -> PoolCounts:
        return PoolCounts(
            self._foreign_frames, self._refused_hellos, self._refused_keys, self._peer_errors, self._false_claims,
            self._intruded_at,
        )  # fmt: skip

    def foreign(self) -> None:
        """A frame under a name that is no worker's."""
        self._foreign_frames += 1

    def hello(self, worker: Worker) -> None:
        """A hello under a worker's name that its token did not prove."""
        self._refused_hellos += 1
        self._intruded_at = time.time()
        log.error("refused a hello as %s: no such token", worker.id)

    def key(self) -> None:
        """A connection with a key that is not on the list."""
        self._refused_keys += 1
        self._intruded_at = time.time()

    def unreadable(self, worker: Worker, error: PeerError) -> None:
        self._peer_errors += 1
        worker.peer_errors += 1
        if worker.peer_errors in _TOLD:
            log.warning("dropped a frame of %s (%d so far): %s", worker.id, worker.peer_errors, error)

    def claim(self, worker: Worker, claim: str) -> None:
        """It has spoken for another session: whatever it is by now, it is not what was started."""
        self._false_claims += 1
        self._intruded_at = time.time()
        worker.disowned = True
        log.error(
            "worker %s is ended, it speaks for others: %s", worker.id, claim,
            extra={"session": worker.session, "worker": worker.id},
        )  # fmt: skip

    def of_disowned(self) -> None:
        """A further frame of such a worker, which is about to die."""
        self._false_claims += 1
