"""What can go wrong with a container."""

from __future__ import annotations


class ContainmentError(Exception):
    """Base of every error of this package; the text says what could not be done and why."""


class Unsupported(ContainmentError):
    """This machine, or this user on it, cannot have that strategy; the text is the reason alone."""


class TagError(ContainmentError):
    """A tag is malformed, or could not be put into this process's environment."""


class LeftAlive(ContainmentError):
    """Processes of ours survived every round of killing (another user's, or stuck in the kernel)."""

    def __init__(self, reason: str, pids: tuple[int, ...] = ()):
        super().__init__(reason)
        self.pids = pids
