"""What an agent is given of a message: its text, with what its reader would see around it, and its files. Pure."""

from __future__ import annotations

from hermesd.adapters.contract import Attachment, Inbound
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import File, StickerFacts

QUOTED = 500
"""Characters of a quoted message; hermes-agent gives as many."""


def text_of(inbound: Inbound, key: SessionKey) -> str:
    """Its text; after what it answers, where the platform tells; with its writer, where several share a session."""
    text = inbound.text
    if _is_shared(inbound, key):
        text = f"[{inbound.user_name or inbound.user_id}] {text}"
    if inbound.reply_to_text:
        quoted = " ".join(inbound.reply_to_text.split())
        short = quoted if len(quoted) <= QUOTED else f"{quoted[:QUOTED]}…"
        text = f'[In reply to: "{short}"]\n{text}'
    return text


def _is_shared(inbound: Inbound, key: SessionKey) -> bool:
    """Whether others write in this session too: then its key does not end with this one's name."""
    return inbound.chat_type != "dm" and not key.endswith(f":{inbound.user_id_alt or inbound.user_id}")


def files_of(inbound: Inbound) -> tuple[File, ...]:
    """Its files; one that could not be fetched is named in the text instead."""
    return tuple(_file(file) for file in inbound.attachments if file.path)


def _file(file: Attachment) -> File:
    sticker = file.sticker
    facts = None
    if sticker is not None:
        facts = StickerFacts(sticker.unique_id, sticker.emoji, sticker.set_name, sticker.animated, sticker.description)
    return File(file.path, file.name, file.mime, file.kind, facts)
