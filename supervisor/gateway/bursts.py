"""Messages that belong together: how long to wait for more of them, and what they are as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hermesd.adapters.contract import Attachment, Bursts, Inbound
from hermesd.adapters.text import Unit

MOST = 50
"""Messages that are merged at the most: whoever writes without a pause must get an answer some time."""

LONGEST_SECONDS = 10.0
"""From the first of them, for the same reason."""


def patience(bursts: Bursts, unit: Unit, latest: Inbound, waited: float) -> float:
    """Seconds to wait for more after ``latest``; ``waited`` is how long the first has waited already."""
    if latest.album:
        wanted = bursts.album
    elif bursts.cut_from and unit(latest.text) >= bursts.cut_from:
        wanted = bursts.cut
    else:
        wanted = bursts.text
    return max(0.0, min(wanted, LONGEST_SECONDS - waited))


def belongs(bursts: Bursts, first: Inbound, other: Inbound) -> bool:
    """Whether the second is more of the first: of the same person and place, and no answer to something else.

    Where texts are not waited for, they are also not joined that came at once.
    """
    if not bursts.text and not first.album:
        return False
    here = (first.chat_id, first.thread_id, first.user_id, first.album)
    there = (other.chat_id, other.thread_id, other.user_id, other.album)
    return here == there and other.reply_to_id in ("", first.reply_to_id)


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
