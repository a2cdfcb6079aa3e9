"""How fast a platform may be called: token buckets of one platform, on the clock that its caller gives. Pure.

A token comes back ``seconds`` after it was used, so that no window of that length, wherever it begins, holds more than
``count`` calls. Messages book their token and so are served in the order in which they asked; the progress of a running
answer takes one only if nobody waits, and leaves one for the answer's end.
"""

from __future__ import annotations

from bisect import insort

from hermesd.adapters.contract import Capabilities, Rate
from hermesd.adapters.errors import Retry

SLOWEST = 30.0
"""Seconds between two tries at one message, at most, unless the platform itself says more: what has waited for a
platform must be there soon after it is back.
"""


def backed_off(after: float, failures: int) -> float:
    """Seconds until the next try after so many in a row that failed, from 1; ``after``: what the last one asked for."""
    return max(after, min(SLOWEST, after * 2.0 ** min(failures - 1, 16)))


class Bucket:
    """``uses`` are the times of the last ``count`` calls, booked ones in the future included."""

    def __init__(self, rate: Rate):
        self.rate = rate
        self._uses: list[float] = []

    def free_at(self, now: float, keep: int = 0) -> float:
        """The earliest time for one more call that leaves ``keep`` tokens."""
        count = max(1, self.rate.count - keep)
        if len(self._uses) < count:
            return now
        return max(now, self._uses[-count] + self.rate.seconds)

    def use(self, at: float) -> None:
        insort(self._uses, at)
        del self._uses[: -self.rate.count]

    def drain(self, until: float) -> None:
        """There is no token before, and one after the other from then on."""
        count, seconds = self.rate.count, self.rate.seconds
        booked = [use for use in self._uses if use >= until]
        self._uses = [until - seconds * (count - place) / count for place in range(count)]
        for use in booked:
            self.use(use)

    def used_until(self) -> float:
        """When the last token is back."""
        return self._uses[-1] + self.rate.seconds if self._uses else 0.0

    @property
    def booked_until(self) -> float:
        return self._uses[-1] if self._uses else 0.0


class Rates:
    """The buckets of one platform. Times are monotonic seconds; ``chat`` is the id of a chat."""

    def __init__(self) -> None:
        self._overall: Bucket | None = None
        self._progress: Bucket | None = None
        self._chats: dict[str, Bucket] = {}
        self._closed: dict[str, float] = {}  # by the platform's word, until when
        self._all_closed = 0.0
        self._sweep_at = 0.0

    def when(self, chat: str, capabilities: Capabilities, now: float) -> float:
        """The time at which a message may go to this chat: ``now``, or later. A call by `book` at that time is due."""
        self._know(chat, capabilities, now)
        at = max(now, self.closed_until(chat))
        if (bucket := self._chats.get(chat)) is not None:
            at = max(at, bucket.free_at(now))
        return at

    def book(self, chat: str, capabilities: Capabilities, now: float) -> float:
        """Take a token of the chat, which must be free (`when`), and the next one of the platform; returns when that
        is: the call may be made then, and not before.
        """
        self._know(chat, capabilities, now)
        at = now if self._overall is None else self._overall.free_at(now)
        if self._overall is not None:
            self._overall.use(at)
        if (bucket := self._chats.get(chat)) is not None:
            bucket.use(at)
        return at

    def spare(self, chat: str, capabilities: Capabilities, now: float) -> float:
        """For progress: ``now`` if a token was free and has been taken, else when to ask again."""
        self._know(chat, capabilities, now)
        at = max(now, self.closed_until(chat))
        if (bucket := self._chats.get(chat)) is not None:
            at = max(at, bucket.free_at(now, _kept(bucket)))
        if self._overall is not None:
            at = max(at, self._overall.free_at(now, _kept(self._overall)))
            if self._overall.booked_until > now:
                at = max(at, self._overall.booked_until)
        if self._progress is not None:
            at = max(at, self._progress.free_at(now))
        if at > now:
            return at
        for one in (self._overall, self._progress, self._chats.get(chat)):
            if one is not None:
                one.use(now)
        return now

    def close(self, chat: str, until: float) -> None:
        """The platform has said that nothing may come before."""
        self._closed[chat] = max(until, self._closed.get(chat, 0.0))

    def close_all(self, until: float) -> None:
        """The same for all chats: what the platform counts has been used up."""
        self._all_closed = max(until, self._all_closed)
        if self._overall is not None:
            self._overall.drain(self._all_closed)
        if self._progress is not None:
            self._progress.use(self._all_closed)

    def heed(self, chat: str, error: Retry, now: float, *, always: bool = False) -> None:
        """What a call for this chat came to. ``always``: also for a failure that says nothing of other calls."""
        if error.overall:
            self.close_all(now + error.after)
        elif error.flood or always:
            self.close(chat, now + error.after)

    def closed_until(self, chat: str) -> float:
        return max(self._all_closed, self._closed.get(chat, 0.0))

    def closed_for(self, chat: str, now: float) -> float:
        """Seconds for which the platform wants nothing in this chat, by its own word."""
        return max(0.0, self.closed_until(chat) - now)

    def reopen(self, chat: str) -> None:
        """Somebody knows better."""
        self._closed.pop(chat, None)

    def _know(self, chat: str, capabilities: Capabilities, now: float) -> None:
        """Go by the rates that the platform has now; forget the chats that are quiet."""
        if capabilities.overall_rate is None:
            self._overall = None
        elif self._overall is None or self._overall.rate != capabilities.overall_rate:
            self._overall = Bucket(capabilities.overall_rate)
            if self._all_closed > now:
                self._overall.drain(self._all_closed)
        if capabilities.progress_rate is None:
            self._progress = None
        elif self._progress is None or self._progress.rate != capabilities.progress_rate:
            self._progress = Bucket(capabilities.progress_rate)
            if self._all_closed > now:
                self._progress.use(self._all_closed)  # what has waited for that time goes first
        known = self._chats.get(chat)
        if capabilities.chat_rate is None:
            self._chats.pop(chat, None)
        elif known is None or known.rate != capabilities.chat_rate:
            self._chats[chat] = Bucket(capabilities.chat_rate)
        if now >= self._sweep_at:
            self._sweep_at = now + 60.0
            for quiet in [one for one, bucket in self._chats.items() if one != chat and bucket.used_until() <= now]:
                del self._chats[quiet]
            for over in [one for one, until in self._closed.items() if until <= now]:
                del self._closed[over]


def _kept(bucket: Bucket) -> int:
    """Tokens that progress leaves: a quarter, but of a single one nothing, or there would be no progress at all."""
    return 0 if bucket.rate.count == 1 else max(1, bucket.rate.count // 4)
