"""One try at one part: an edit of the message that shows it already, or a send. What it came to, and no more.

An edit may be repeated at will. When a message can no longer be edited, its text is sent anew: an answer must come.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from hermesd.adapters.contract import Adapter, CanEdit, CanFind, Outbound, capability
from hermesd.adapters.errors import (
    AdapterError,
    DeliveryError,
    Gone,
    Rejected,
    Retry,
    Unattended,
    Unauthorized,
    Uncertain,
)
from hermesd.supervisor.journal.rows import OutboxRow

from .parts import marked

log = logging.getLogger("hermesd.delivery")

DENIED_SECONDS = 30.0
"""Until a platform that does not accept us is tried again, if it is not connected anew before."""


@dataclass(frozen=True, slots=True)
class Sent:
    """``anew``: it could not be edited and stands below now. ``left``: id of the message that still shows a part.
    ``others``: `hermesd.adapters.contract.Sent.others`.
    """

    message_id: str
    anew: bool = False
    left: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """After ``after`` seconds. ``edits``: the id that the next try is to edit; ``uncertain``: it may have arrived.

    ``denied``: the platform does not accept who we are, which is nothing that the message could be at fault for.
    ``overall``: until then nothing may go to any other chat either.
    """

    after: float
    error: str
    uncertain: bool
    edits: str
    anew: bool = False
    left: str = ""
    denied: Unauthorized | None = None
    overall: bool = False


@dataclass(frozen=True, slots=True)
class Away:
    """Nobody looks at the chat just now."""

    error: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The platform will never take it. ``refused``: because of what it is; in another shape it may."""

    error: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The adapter failed in a way that says nothing."""

    error: str


Outcome = Sent | Later | Away | Lost | Unknown


async def attempt(adapter: Adapter, row: OutboxRow, others: Callable[[], Awaitable[Collection[str]]]) -> Outcome:
    """Call the platform for a row that is *sending* on disk. ``others``: the ids of other messages of its chat."""
    edits, anew, left, uncertain = row.platform_message_id, False, "", row.uncertain
    editor = capability(adapter, CanEdit)
    if edits and editor is not None:
        try:
            sent = await editor.edit(row.target, edits, row.message)
            return Sent(sent.message_id or edits)
        except (Retry, Uncertain) as error:
            return Later(
                error.after, str(error), uncertain or isinstance(error, Uncertain), edits, overall=_overall(error)
            )
        except Unauthorized as error:
            return Later(DENIED_SECONDS, str(error), uncertain, edits, denied=error)
        except (Gone, Rejected) as error:
            log.info("outbox row %d is sent anew: %s", row.id, error)
            anew, left = True, edits if isinstance(error, Rejected) else ""
        except AdapterError as error:
            return Lost(str(error))
        except Exception:  # an adapter's fault; whether the edit arrived is not known, so the mark
            log.exception("outbox row %d: the adapter of %s failed to edit", row.id, row.target.platform)
            anew, left, uncertain = True, edits, True
    facts = adapter.capabilities(row.target)
    doubtful = uncertain and not facts.exact_resends
    again = marked(row.message, facts)
    try:
        if doubtful:
            earlier, doubtful = await _earlier(adapter, row, again, others)
            if earlier:
                return Sent(earlier, anew, left)
        taken = await adapter.send(row.target, again if doubtful else row.message)
        return Sent(taken.message_id, anew, left, taken.others)
    except (Retry, Uncertain) as error:
        return Later(
            error.after, str(error), uncertain or isinstance(error, Uncertain), "", anew, left, overall=_overall(error)
        )
    except Unauthorized as error:
        return Later(DENIED_SECONDS, str(error), uncertain, "", anew, left, error)
    except Unattended as error:
        return Away(str(error))
    except (DeliveryError, AdapterError) as error:
        log.info("outbox row %d was not delivered: %s", row.id, error)
        return Lost(str(error), refused=isinstance(error, Rejected))
    except Exception as error:  # an adapter's fault must not stop the chat; nobody knows whether it was sent
        log.exception("outbox row %d: the adapter of %s failed", row.id, row.target.platform)
        return Unknown(f"{type(error).__name__}: {error}")


def _overall(error: AdapterError) -> bool:
    return isinstance(error, Retry) and error.overall


async def _earlier(
    adapter: Adapter, row: OutboxRow, again: Outbound, others: Callable[[], Awaitable[Collection[str]]]
) -> tuple[str, bool]:
    """The id of an earlier try that has arrived, or ""; and whether one may have arrived all the same."""
    finder = capability(adapter, CanFind)
    if finder is None or not row.uncertain or row.begun:
        return "", True
    try:
        found = await finder.find(row.target, (row.message, again), since=row.created_at, others=await others())
    except Uncertain as error:
        log.info("outbox row %d goes again with a mark: %s", row.id, error)
        return "", True
    except AdapterError:
        raise
    except Exception:  # an adapter's fault: nobody knows, so the mark
        log.exception("outbox row %d: the adapter of %s failed to look for it", row.id, row.target.platform)
        return "", True
    if found:
        log.info("outbox row %d is at %s already, as %s", row.id, row.target.platform, found)
    return found or "", False
