"""An operator's order that no new turn begins (``hermesctl drain``), in all sessions or in some. Pure.

Messages are taken all the same and wait. It is a word of this life of hermesd: the next one begins without. It is not
the drain of a stop, after which nothing is taken any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hermesd.ipc.ids import SessionKey


@dataclass(slots=True)
class DrainOrder:
    everything: bool = False
    sessions: set[SessionKey] = field(default_factory=set)
    since: float = 0.0  # when everything was ordered, Unix seconds

    def __bool__(self) -> bool:
        return self.everything or bool(self.sessions)

    def covers(self, key: SessionKey) -> bool:
        """Whether this session begins no new turn."""
        return self.everything or key in self.sessions

    def give(self, key: SessionKey | None, now: float) -> None:
        """For one session, or with None for all of them. The same order again changes nothing."""
        if key is None:
            self.since = self.since if self.everything else now
            self.everything = True
        else:
            self.sessions.add(key)

    def lift(self, key: SessionKey | None) -> bool:
        """Take it back: of one session, or with None of everything. False: there was none."""
        if key is not None:
            found = key in self.sessions
            self.sessions.discard(key)
            return found
        found = bool(self)
        self.everything = False
        self.sessions.clear()
        return found
