"""What the configuration says about messages to chats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Streaming:
    """``streaming``: whether and how a chat sees an answer while it is being written. ``interval`` in seconds."""

    enabled: bool = True
    interval: float = 0.8
    threshold: int = 24
    cursor: str = " \u2589"


@dataclass(frozen=True, slots=True)
class Places:
    """Where files lie that hermesd has to be careful with; None: nowhere.

    ``work`` holds the directories of all sessions, each by its session id.
    """

    home: Path | None = None
    media: Path | None = None
    work: Path | None = None


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """``reply_to_mode``: by platform, "first" where it is not named."""

    streaming: Streaming = field(default_factory=Streaming)
    reply_to_mode: Mapping[str, str] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
