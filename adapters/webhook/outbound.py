"""Answers as text, for the log and for a comment. Pure."""

from __future__ import annotations

from hermesd.adapters.contract import Outbound

LOGGED = 4000
"""Characters of an answer that the log gets; ``hermesctl outbox show`` has all of it."""


def text(message: Outbound) -> str:
    """An answer, with the names of files that there is no place for."""
    files = "".join(f"\n[file {file.name}: {file.path}]" for file in message.files)
    return message.text + files


def line(chat: str, message: Outbound) -> str:
    """An answer as a line of the log."""
    route, _, delivery = chat.partition(":")
    whole = text(message)
    if len(whole) > LOGGED:
        whole = f"{whole[:LOGGED]}… ({len(whole) - LOGGED} more characters: hermesctl outbox)"
    return f"{message.kind} to event {delivery} of route {route}: {whole}"
