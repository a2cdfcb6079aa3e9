"""Which messages are for us: allowed, ignored, free, mentioned, joined, in this order."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.discord.addressing import Author, Chat, Kind, NotForUs, Place, address
from hermesd.adapters.discord.options import Options

CHANNEL = Place(Kind.CHANNEL, "10", may_thread=True)
THREAD = Place(Kind.THREAD, "20", "10")
POST = Place(Kind.POST, "30", "11")
DM = Place(Kind.DM, "40")
IN_CHANNEL, IN_THREAD = Chat("group", "10"), Chat("thread", "10", "20")
NEW_THREAD = Chat("thread", "10", "99")


def judge(
    place: Place, *, mentioned: bool = False, joined: tuple[str, ...] = (), author: Author | None = None, **options: Any
) -> Chat | str:
    wanted = {key: frozenset(value) if isinstance(value, tuple) else value for key, value in options.items()}
    found = address(
        Options("token", **wanted), place, author or Author("7"), "99", me="1", mentioned=mentioned, joined=joined
    )
    return found.why if isinstance(found, NotForUs) else found


NO_MENTION, IGNORED, NOT_ALLOWED = (
    "it does not mention us", "the channel is ignored", "the channel is not among the allowed ones",
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "said", "options", "expected"),
    [
        (DM, {}, {}, Chat("dm", "40")),
        (DM, {}, {"allowed_channels": ("1",), "ignored_channels": ("40",)}, Chat("dm", "40")),
        (CHANNEL, {}, {}, NO_MENTION),
        (CHANNEL, {"mentioned": True}, {}, NEW_THREAD),
        (CHANNEL, {"mentioned": True}, {"auto_thread": False}, IN_CHANNEL),
        (CHANNEL, {"mentioned": True}, {"no_thread_channels": ("10",)}, IN_CHANNEL),
        (Place(Kind.CHANNEL, "10"), {"mentioned": True}, {}, IN_CHANNEL),
        (CHANNEL, {}, {"require_mention": False}, IN_CHANNEL),
        (CHANNEL, {}, {"free_channels": ("10",)}, IN_CHANNEL),
        (CHANNEL, {"mentioned": True}, {"free_channels": ("10",)}, NEW_THREAD),
        (CHANNEL, {"mentioned": True}, {"ignored_channels": ("10",)}, IGNORED),
        (CHANNEL, {"mentioned": True}, {"ignored_channels": ("10",), "free_channels": ("10",)}, IGNORED),
        (CHANNEL, {"mentioned": True}, {"allowed_channels": ("11",)}, NOT_ALLOWED),
        (CHANNEL, {"mentioned": True}, {"allowed_channels": ("11",), "ignored_channels": ("10",)}, NOT_ALLOWED),
        (CHANNEL, {"mentioned": True}, {"allowed_channels": ("10",)}, NEW_THREAD),
        (THREAD, {}, {}, NO_MENTION),
        (THREAD, {"mentioned": True}, {}, IN_THREAD),
        (THREAD, {"joined": ("20",)}, {}, IN_THREAD),
        (THREAD, {"joined": ("20",)}, {"ignored_channels": ("10",)}, IGNORED),
        (THREAD, {}, {"free_channels": ("10",)}, IN_THREAD),
        (THREAD, {"mentioned": True}, {"allowed_channels": ("20",)}, IN_THREAD),
        (POST, {"mentioned": True}, {}, Chat("thread", "11", "30")),
        (POST, {}, {"free_channels": ("11",)}, Chat("thread", "11", "30")),
    ],
)
def test_the_order_of_the_questions(place: Place, said: Any, options: Any, expected: Chat | str) -> None:
    assert judge(place, **said, **options) == expected


@pytest.mark.parametrize(
    ("allow_bots", "mentioned", "heard"),
    [
        ("none", False, False), ("none", True, False), ("mentions", False, False), ("mentions", True, True),
        ("all", False, True), ("all", True, True),
    ],
)  # fmt: skip
def test_bots_are_left_alone_unless_they_are_allowed(allow_bots: str, mentioned: bool, heard: bool) -> None:
    found = judge(DM, author=Author("7", bot=True), mentioned=mentioned, allow_bots=allow_bots)
    assert isinstance(found, Chat) is heard


def test_nobody_talks_to_himself() -> None:
    assert judge(DM, author=Author("1", bot=True), allow_bots="all") == "our own"
