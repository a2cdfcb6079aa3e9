"""What the configuration says about the account and about who is answered where, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.options import Options as Reader

USER_ID = re.compile(r"@[^:\s]+:\S+")


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one Matrix account; `read` makes them. ``token`` goes before ``password``."""

    homeserver: str
    user_id: str = ""  # "" with a token: its owner
    token: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    device_id: str = ""
    encryption: bool = False
    require_mention: bool = True  # in rooms; direct chats need none
    free_response_rooms: frozenset[str] = frozenset()
    allowed_rooms: frozenset[str] = frozenset()  # empty: all
    auto_thread: bool = True  # a message in a room that is answered begins a thread
    dm_mention_threads: bool = False  # the same for a direct chat's message that mentions us
    text_batch_delay: float = 0.6  # seconds in which more of a message is waited for; 0: each stands for itself
    data_dir: Path | None = None  # what must outlive this process and is no message: the login, keys


def read(settings: AdapterSettings) -> Options:
    """Check the settings. Raises `AdapterError` with the key and why."""
    reader = Reader(settings)
    media = settings.extra.get("media_dir")
    options = Options(
        homeserver=_homeserver(reader.text("homeserver", "MATRIX_HOMESERVER")),
        user_id=reader.text("user_id", "MATRIX_USER_ID"),
        token=settings.environ.get("MATRIX_ACCESS_TOKEN", "").strip() or settings.token,
        password=reader.text("password", "MATRIX_PASSWORD"),
        device_id=reader.text("device_id", "MATRIX_DEVICE_ID"),
        encryption=reader.flag("encryption", "MATRIX_ENCRYPTION", False),
        require_mention=reader.flag("require_mention", "MATRIX_REQUIRE_MENTION", True),
        free_response_rooms=reader.names("free_response_rooms", "MATRIX_FREE_RESPONSE_ROOMS"),
        allowed_rooms=reader.names("allowed_rooms", "MATRIX_ALLOWED_ROOMS"),
        auto_thread=reader.flag("auto_thread", "MATRIX_AUTO_THREAD", True),
        dm_mention_threads=reader.flag("dm_mention_threads", "MATRIX_DM_MENTION_THREADS", False),
        text_batch_delay=reader.number("text_batch_delay", "HERMES_MATRIX_TEXT_BATCH_DELAY_SECONDS", 0.6),
        data_dir=Path(str(media)).parent / settings.name if media else None,
    )
    if options.user_id and not USER_ID.fullmatch(options.user_id):
        raise AdapterError(
            f"cannot use MATRIX_USER_ID: {options.user_id!r} is no Matrix user id", fix="write it as @name:server"
        )
    if not options.token and not (options.password and options.user_id):
        raise AdapterError(
            "cannot log in to Matrix: there is neither an access token nor a user id with its password",
            fix="set MATRIX_ACCESS_TOKEN, or MATRIX_USER_ID and MATRIX_PASSWORD",
        )
    return options


def _homeserver(text: str) -> str:
    if not text:
        raise AdapterError(
            "cannot connect to Matrix: there is no homeserver", fix="set MATRIX_HOMESERVER=https://matrix.example.org"
        )
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise AdapterError(
            f"cannot use MATRIX_HOMESERVER: {text!r} is no http(s) address", fix="write https://matrix.example.org"
        )
    return str(url).rstrip("/")
