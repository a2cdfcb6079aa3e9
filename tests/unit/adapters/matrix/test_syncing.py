from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.contract import Cursor
from hermesd.adapters.errors import NotAccepted
from hermesd.adapters.matrix.syncing import DeferringStore, since_we_came

US = "@robo:example.org"


def said(text: str) -> dict[str, Any]:
    return {"type": "m.room.message", "sender": "@anna:example.org", "content": {"body": text}}


def member(membership: str, before: str | None = None, user: str = US, **unsigned: Any) -> dict[str, Any]:
    if before is not None:
        unsigned["prev_content"] = {"membership": before}
    return {
        "type": "m.room.member", "state_key": user, "content": {"membership": membership}, "unsigned": unsigned,
    }  # fmt: skip


def heard(*events: dict[str, Any]) -> list[str]:
    return [one["content"]["body"] for one in since_we_came(list(events), US) if "body" in one["content"]]


class TestWhatIsHistory:
    def test_before_we_were_invited(self) -> None:
        assert heard(said("a"), member("invite"), said("b"), member("join", "invite"), said("c")) == ["b", "c"]

    def test_before_we_came_by_ourselves(self) -> None:
        assert heard(said("a"), member("join"), said("b")) == ["b"]
        assert heard(said("a"), member("join", "leave"), said("b")) == ["b"]

    def test_nothing_where_the_invitation_was_before_all_of_it(self) -> None:
        assert heard(said("a"), member("join", "invite"), said("b")) == ["a", "b"]

    def test_nothing_where_we_only_have_a_new_name(self) -> None:
        assert heard(said("a"), member("join", "join"), said("b")) == ["a", "b"]
        assert heard(said("a"), member("join", replaces_state="$x"), said("b")) == ["a", "b"]

    def test_nothing_where_somebody_else_comes(self) -> None:
        assert heard(said("a"), member("join", user="@ben:example.org"), said("b")) == ["a", "b"]

    def test_before_we_came_back(self) -> None:
        assert heard(member("invite"), said("a"), member("leave", "join"), said("b"), member("invite"), said("c")) == [
            "c"
        ]


class TestStore:
    async def test_a_token_is_kept_when_its_batch_is_settled_and_not_before(self) -> None:
        kept: list[str] = []

        async def keep(cursor: Cursor) -> None:
            kept.append(f"{cursor.name}={cursor.value}")

        store = DeferringStore(keep, "s1")
        assert await store.get_next_batch() == "s1"
        await store.put_next_batch("s2")
        assert (store.kept, kept) == ("s1", [])
        await store.settle()
        await store.settle()
        assert (store.kept, kept) == ("s2", ["sync=s2"])

    async def test_one_that_cannot_be_kept_is_kept_the_next_time(self) -> None:
        full = True

        async def keep(cursor: Cursor) -> None:
            if full:
                raise NotAccepted("the disk is full")

        store = DeferringStore(keep, "s1")
        await store.put_next_batch("s2")
        with pytest.raises(NotAccepted):
            await store.settle()
        assert store.kept == "s1"
        full = False
        await store.settle()
        assert store.kept == "s2"
