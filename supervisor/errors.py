"""The errors of the supervisor that reach a person, with the exit status each one means."""

from __future__ import annotations


class HermesdError(Exception):
    """Base. ``exit_status`` is what ``hermesd`` ends with when nobody handles it."""

    exit_status = 1


class StartFailed(HermesdError):
    """Something that hermesd cannot do without did not come up."""


class Escalation(HermesdError):
    """Workers crash all over: the fault is not a session's. The service manager decides what happens next."""

    exit_status = 75
