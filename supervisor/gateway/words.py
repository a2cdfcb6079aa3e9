"""What hermesd itself says to a chat. One place, so that it speaks with one voice."""

from __future__ import annotations

import signal


def how_it_ended(exit_code: int | None) -> str:
    """``killed by SIGKILL``, ``exit status 3``."""
    if exit_code is None:
        return "nobody was told how"
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def lost(how: str, *, may_retry: bool = True) -> str:
    """``may_retry``: the one who reads it can give commands, which a stateless API client cannot."""
    return (
        f"The process that was answering this has died ({how}). It was not run again by itself, "
        "because its tools may have acted already." + (" /retry runs your message again." if may_retry else "")
    )


def lost_with_hermesd(*, may_retry: bool = True) -> str:
    return (
        "hermesd was restarted while this was being answered. It was not run again by itself, because its tools may "
        "have acted already." + (" /retry runs your message again." if may_retry else "")
    )


def about_event(name: str, inbox_id: int, failure: str) -> str:
    """For a chat that gets the answers to events: which one it was, and how a person has it tried again."""
    return f"{name}: {failure} (hermesctl inbox retry {inbox_id} runs it again.)"


def dead_letter(killed: int, *, may_retry: bool = True) -> str:
    return f"This message was set aside: {killed} processes have died while they were answering it." + (
        " Later messages are answered as usual; /retry tries this one again." if may_retry else ""
    )


def failed(error: str) -> str:
    return f"The agent failed: {error}"


def cannot_send(target: str) -> str:
    return f"A message of the agent was not sent: nobody has ever written from {target!r}."


def cannot_be_given(error: str) -> str:
    return f"This message cannot be given to the agent: {error}. The conversation goes on without it."


def quarantined(crashes: int, minutes: float) -> str:
    return (
        f"The agent of this conversation has crashed {crashes} times within a minute and was taken out of service for "
        f"{minutes:.0f} minutes. /new ends that at once."
    )


def still_quarantined(seconds: float) -> str:
    return f"The agent of this conversation is out of service for another {seconds / 60:.0f} minutes. /new ends that."


def place_in_line(place: int, busy: int) -> str:
    """``busy``: turns that run now. There may be none, while an idle worker makes room."""
    if not busy:
        return f"A place is being made: your message is number {place} in the line."
    taken = "The one place is" if busy == 1 else f"All {busy} places are"
    return f"{taken} taken: your message is number {place} in the line."


DRAINED = "hermesd begins no new answers just now: your message waits."


def still_quiet(seconds: float, limit: float) -> str:
    end = f" After {limit / 60:.0f} minutes it is ended." if limit else ""
    return f"Nothing has been heard of the agent for {seconds / 60:.0f} minutes; it still runs.{end} /stop ends it now."


STEERED = "Passed on to the answer that is being written."


def interrupted(text: str, overran: str = "") -> str:
    """The final message of an interrupted turn: what there is of the answer, and that it is not all.

    ``overran``: why hermesd itself ended it.
    """
    if overran:
        return f"{text}\n\n(stopped: {overran})" if text else f"Stopped: {overran}."
    return f"{text}\n\n(interrupted)" if text else "Interrupted."


def question(text: str, choices: tuple[str, ...]) -> str:
    words = " or ".join(f"/{choice}" for choice in choices) if set(choices) <= {"approve", "deny"} else ""
    if not choices:
        return text
    answer = words or f"/approve CHOICE, one of: {', '.join(choices)}; or with /deny"
    return f"{text}\n\nAnswer with {answer}."


def file_not_fetched(name: str, reason: str) -> str:
    """In place of a file, for the agent."""
    return f"[The file {name} of this message could not be fetched: {reason}]"


NOT_YOURS_TO_ANSWER = "This is not yours to answer."
QUESTION_IS_OVER = "This question is no longer open."


def outcome(choice: str, by: str) -> str:
    """What came of a question, under it. ``choice`` "": no answer that its agent offered."""
    if choice:
        return pressed(choice, by)
    return "Nobody answered in time." if by == NOBODY else f"Denied, by {by}."


NOBODY = "nobody in time"
"""Who has answered a question whose time is over."""


def pressed(choice: str, by: str) -> str:
    """In place of a question's buttons."""
    return f"{choice}, by {by}" if by else choice
