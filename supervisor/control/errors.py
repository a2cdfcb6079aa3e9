"""Why a control request fails: the words of the protocol, and the exceptions on either side of the socket."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The ``code`` of a fault. ``hermesctl`` makes its exit status of it."""

    USAGE = "usage"  # a parameter is wrong
    UNKNOWN_VERB = "unknown_verb"  # this hermesd has no such verb: it is of another version
    DENIED = "denied"
    NOT_FOUND = "not_found"  # no such session, worker or server
    BUSY = "busy"  # not now: another action is in progress, or too many clients
    TIMED_OUT = "timed_out"  # still going on
    CONFIG = "config"  # the configuration is wrong and was not applied
    FAILED = "failed"
    MALFORMED = "malformed"  # bytes that are no request
    INTERNAL = "internal"  # a bug in hermesd; its log has the traceback


class ControlError(Exception):
    """Base of every error of this package."""


class Refused(ControlError):
    """A request was answered with a fault.

    Raised by handlers to give that answer, and by the client that received it.
    """

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


class CannotServe(ControlError):
    """The control socket cannot be opened."""


class Unreachable(ControlError):
    """The client got no answer. Its subclasses say which of the ways."""


class NobodyThere(Unreachable):
    """There is no socket, or nobody listens on it."""


class NotAllowed(Unreachable):
    """The system does not let us connect: another user's hermesd."""


class NoAnswer(Unreachable):
    """Somebody listens and did not answer in time."""


class Hangup(Unreachable):
    """The connection ended before the answer was complete."""


class Unintelligible(Unreachable):
    """What came back is not this protocol."""
