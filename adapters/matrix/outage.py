"""How a sync that fails is tried again. Pure.

A server that answers, if only that it is busy or broken, is asked again at least every half a minute, for as long as it
takes: it will be back as suddenly as it went. One that cannot be reached is given up after a minute, and the core
connects anew in its own, longer time. mautrix' own back-off, of 5 to 320 s (mautrix/client/syncer.py:487), is neither.
"""

from __future__ import annotations

from mautrix.errors import MatrixRequestError

from hermesd.adapters.errors import AdapterError, Retry, Unauthorized

DELAYS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between tries; the last one for as long as it takes."""

GIVE_UP_SECONDS = 60.0
"""Of a server that does not answer at all, or that does not know what we ask for."""


class Outage:
    """The failures in a row; ``now`` is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._silent_since: float | None = None

    def failed(self, error: AdapterError, now: float) -> float | None:
        """Seconds until the next try; None when there is to be none. The cause of ``error`` is what the call raised."""
        if isinstance(error, Unauthorized):
            return None
        if isinstance(error, Retry) and isinstance(error.__cause__, MatrixRequestError):
            self._silent_since = None
        else:
            self._silent_since = now if self._silent_since is None else self._silent_since
            if now - self._silent_since >= GIVE_UP_SECONDS:
                return None
        delay = DELAYS[min(self._failures, len(DELAYS) - 1)]
        self._failures += 1
        return max(delay, error.after if isinstance(error, Retry) else 0.0)

    def over(self) -> bool:
        """A sync has come. Returns whether there was an outage."""
        was, self._failures, self._silent_since = self._failures > 0, 0, None
        return was
