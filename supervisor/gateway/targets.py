"""Where an agent sends something: its words for a chat, as hermes-agent's ``send_message`` has them. Pure."""

from __future__ import annotations

from hermesd.adapters.contract import Target


def parse(text: str) -> Target | None:
    """``platform:chat`` or ``platform:chat:thread``; None for what is neither.

    >>> parse("telegram:-100123:17")
    Target(platform='telegram', chat_id='-100123', thread_id='17', reply_to='')
    >>> parse("matrix:!room:example.org:$event").thread_id
    '$event'
    """
    platform, _, rest = text.partition(":")
    if not platform or not rest:
        return None
    if rest[0] in "!@#":  # Matrix: its names have a colon of their own, and a thread is an event
        chat, dollar, thread = rest.partition(":$")
        return Target(platform, chat, dollar[1:] + thread)
    chat, _, thread = rest.partition(":")
    return Target(platform, chat, thread) if chat else None
