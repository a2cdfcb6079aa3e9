"""The user's message as the endpoint gets it: its text, and what is attached to it."""

from __future__ import annotations

import base64
import mimetypes
import os
from collections.abc import Sequence
from typing import Any

from hermesd.ipc.messages import File

from .conversation import NO_TEXT, Message

LARGEST = 20 << 20
"""Bytes of an image; the large providers take no larger ones."""

DESCRIBE = (
    "This is a sticker that somebody sent in a chat. Say in one or two sentences what it shows and which mood it has. "
    "Write nothing else."
)

SHAPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def message_of(text: str, files: Sequence[File]) -> Message:
    """Images are parts of their own; any other file is named with its path, for a tool may read it."""
    images, notes = [], []
    for file in files:
        if file.mime in SHAPES and (data := _data(file.path)):
            images.append({"type": "image_url", "image_url": {"url": f"data:{file.mime};base64,{data}"}})
        else:
            notes.append(f"[attached: {file.name} ({file.mime}), at {file.path}]")
    told = "\n".join(part for part in (text, *notes) if part)
    if not images:
        return {"role": "user", "content": told or NO_TEXT}
    parts: list[dict[str, Any]] = [{"type": "text", "text": told}] if told else []
    return {"role": "user", "content": [*parts, *images]}


def question(path: str) -> list[Message]:
    """The request for a description of an image file; empty for a file that models do not take."""
    mime = mimetypes.guess_type(path)[0] or ""
    data = _data(path) if mime in SHAPES else ""
    if not data:
        return []
    image = {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
    return [{"role": "user", "content": [{"type": "text", "text": DESCRIBE}, image]}]


def has_images(messages: Sequence[Message]) -> bool:
    return any(isinstance(message.get("content"), list) for message in messages)


def without_images(messages: Sequence[Message]) -> list[Message]:
    """For a model that takes none: it is told that there were some."""
    return [
        {**message, "content": _told(message["content"])} if isinstance(message.get("content"), list) else message
        for message in messages
    ]


def _told(parts: list[dict[str, Any]]) -> str:
    texts = [part["text"] for part in parts if part["type"] == "text"]
    count = len(parts) - len(texts)
    what = "an image" if count == 1 else f"{count} images"
    return "\n".join([*texts, f"[The user attached {what}, which this model cannot see.]"])


def _data(path: str) -> str:
    try:
        if os.path.getsize(path) > LARGEST:
            return ""
        with open(path, "rb") as stream:
            return base64.b64encode(stream.read()).decode()
    except OSError:  # it is named instead, and a tool that looks for it says what is wrong
        return ""
