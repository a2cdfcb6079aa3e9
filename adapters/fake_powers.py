"""What the fake platform can do besides sending, and how it keeps its own rules as a real one does.

``extra.can`` names the optional capabilities: edit, delete, type, react, buttons, menu, fetch. ``extra.max_length``,
``unit`` (characters, utf16, utf8), ``max_caption``, ``max_file_bytes``, ``markdown``, ``exact_resends``, ``bursts``
(``{text, cut, cut_from, album}``), ``albums`` (how many files of a kind one call may have), ``overall_rate`` and
``chat_rate`` (``[count, seconds]``) are its `Capabilities`, to which it holds the core: what is too long is `Rejected`,
what comes too fast `Retry`. ``withhold_ids``: it takes messages and does not say under which id.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hermesd.adapters.contract import Albums, Attachment, Bursts, Capabilities, Outbound, Rate
from hermesd.adapters.errors import AdapterError, Rejected, Retry
from hermesd.adapters.text import Unit, characters, utf8_bytes, utf16_units

CAN = ("edit", "delete", "type", "react", "buttons", "menu", "fetch")
UNITS: Mapping[str, Unit] = {"characters": characters, "utf16": utf16_units, "utf8": utf8_bytes}


@dataclass(frozen=True, slots=True)
class Powers:
    """The part of ``extra`` that says what the platform is like."""

    can: frozenset[str] = frozenset()
    capabilities: Capabilities = field(default_factory=Capabilities)
    withhold_ids: bool = False


def powers_of(extra: Mapping[str, Any]) -> Powers:
    """Raises `AdapterError` for what it does not know."""
    can = frozenset(str(word) for word in extra.get("can") or ())
    if unknown := sorted(can - set(CAN)):
        raise AdapterError(f"cannot use extra.can: {', '.join(unknown)} is none of {', '.join(CAN)}")
    unit = str(extra.get("unit") or "characters")
    if unit not in UNITS:
        raise AdapterError(f"cannot use extra.unit: {unit!r} is none of {', '.join(UNITS)}")
    capabilities = Capabilities(
        max_length=int(extra.get("max_length") or 0),
        unit=UNITS[unit],
        markdown=bool(extra.get("markdown")),
        max_caption=int(extra.get("max_caption") or 0),
        max_file_bytes=int(extra.get("max_file_bytes") or 0),
        albums=Albums(lambda file: file.kind, most) if (most := int(extra.get("albums") or 0)) else None,
        exact_resends=bool(extra.get("exact_resends")),
        overall_rate=_rate(extra.get("overall_rate")),
        chat_rate=_rate(extra.get("chat_rate")),
        bursts=_bursts(extra.get("bursts")),
    )
    return Powers(can, capabilities, bool(extra.get("withhold_ids")))


def _bursts(value: Any) -> Bursts | None:
    if value is None:
        return None
    try:
        return Bursts(**value)
    except TypeError as error:
        raise AdapterError(f"cannot use the bursts {value!r}: {error}") from error


def _rate(value: Any) -> Rate | None:
    if not value:
        return None
    try:
        count, seconds = value
        return Rate(int(count), float(seconds))
    except (TypeError, ValueError) as error:
        raise AdapterError(f"cannot use the rate {value!r}: it is not [count, seconds]") from error


class Gate:
    """The platform's own limits: raises what a real one answers."""

    def __init__(self, capabilities: Capabilities):
        self._capabilities = capabilities
        self._calls: dict[str, deque[float]] = {}
        self.floods = 0  # calls that were refused because they came too fast

    def enter(self, chat: str, now: float) -> None:
        """One call for this chat; raises `Retry` when it is one too many."""
        overall, by_chat = self._capabilities.overall_rate, self._capabilities.chat_rate
        windows = [
            (self._calls.setdefault(f"chat {chat}", deque()), by_chat),
            (self._calls.setdefault("", deque()), overall),
        ]
        for calls, rate in windows:
            if rate is None:
                continue
            while calls and calls[0] <= now - rate.seconds:
                calls.popleft()
            if len(calls) >= rate.count:
                self.floods += 1
                raise Retry("cannot send: too many messages", after=calls[0] + rate.seconds - now, flood=True)
        for calls, rate in windows:
            if rate is not None:
                calls.append(now)

    def check(self, message: Outbound) -> None:
        """Raises `Rejected` for what is too long or too large."""
        facts = self._capabilities
        limit = facts.max_caption if message.files and facts.max_file_bytes else facts.max_length
        if (facts.max_length or message.files) and limit and facts.unit(message.text) > limit:
            raise Rejected(f"cannot send: the text has {facts.unit(message.text)} units, {limit} are allowed")
        if facts.max_file_bytes:
            most = facts.albums.most if facts.albums is not None else 1
            if len(message.files) > most:
                raise Rejected(f"cannot send: {most} files a message at most")
            if any(file.size > facts.max_file_bytes for file in message.files):
                raise Rejected("cannot send: the file is too large")


def given_files(files: list[dict[str, Any]]) -> tuple[tuple[Attachment, ...], dict[str, bytes]]:
    """What a script attaches to a message: ``name``, ``mime``, ``kind``, and ``text`` or ``base64``.

    The contents lie at the platform, by the name that each has there, until the core fetches them.
    """
    attachments, contents = [], {}
    for number, file in enumerate(files, 1):
        data = base64.b64decode(file["base64"]) if "base64" in file else str(file.get("text", "")).encode()
        remote = f"{file['name']}#{number}"
        contents[remote] = data
        attachments.append(
            Attachment(
                "",
                str(file["name"]),
                str(file.get("mime", "application/octet-stream")),
                str(file.get("kind", "document")),
                remote,
                len(data),
            )
        )
    return tuple(attachments), contents


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]
