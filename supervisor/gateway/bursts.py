"""Messages that belong together: how long to wait for more of them, and what they are as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hermesd.adapters.contract import Attachment, Bursts, Inbound
from hermesd.adapters.text import Unit

MOST = 50
"""Messages that are merged at the most: whoever writes without a pause must get an answer some time."""

LONGEST_SECONDS = 10.0
"""From the first of them, for the same reason."""

CLOCK_SECONDS = 1.5
"""By how much the times that platforms give may be apart from those of the writing: Telegram's are whole seconds."""


def patience(bursts: Bursts, unit: Unit, latest: Inbound, waited: float) -> float:
    """Seconds to wait for more after ``latest``; ``waited`` is how long the first has waited already."""
    if latest.album:
        wanted = bursts.album
    elif bursts.cut_from and unit(latest.text) >= bursts.cut_from:
        wanted = bursts.cut
    else:
        wanted = bursts.text
    return max(0.0, min(wanted, LONGEST_SECONDS - waited))


def together(bursts: Bursts, unit: Unit, messages: Iterable[Inbound]) -> int:
    """How many at the head of ``messages``, of which there is one at least, are one message."""
    queue = iter(messages)
    first = previous = next(queue)
    count = 1
    for other in queue:
        if not _belongs(bursts, first, other) or _is_later(bursts, unit, previous, other):
            break
        previous, count = other, count + 1
    return count


def _belongs(bursts: Bursts, first: Inbound, other: Inbound) -> bool:
    """Whether the second is more of the first: of the same person and place, and no answer to something else.

    Where texts are not waited for, they are also not joined that came at once.
    """
    if not bursts.text and not first.album:
        return False
    here = (first.chat_id, first.thread_id, first.user_id, first.album)
    there = (other.chat_id, other.thread_id, other.user_id, other.album)
    return here == there and other.reply_to_id in ("", first.reply_to_id)


def _is_later(bursts: Bursts, unit: Unit, previous: Inbound, other: Inbound) -> bool:
    """Whether it was written when nobody would have waited any more, and only came at once: after hours without a
    connection, or without us.
    """
    if previous.album or not previous.sent_at or not other.sent_at:
        return False
    return other.sent_at - previous.sent_at > patience(bursts, unit, previous, 0.0) + CLOCK_SECONDS


def merged(messages: Sequence[Inbound]) -> Inbound:
    """One message with the texts as lines and all files; a caption that each piece of an album repeats comes once.

    It is the first of them, with its id: what they answer and when they began stays.
    """
    first = messages[0]
    texts: list[str] = []
    files: list[Attachment] = []
    for message in messages:
        files += message.attachments
        if message.text and not (message.album and message.text in texts):
            texts.append(message.text)
    return replace(first, text="\n".join(texts), attachments=tuple(files))
