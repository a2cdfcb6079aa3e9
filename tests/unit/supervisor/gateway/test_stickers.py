"""The cache of what stickers show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hermesd.adapters.contract import Attachment, Sticker
from hermesd.supervisor.gateway.stickers import Stickers

STICKER = Sticker("AgAD1", "😀", "Cats")
FILE = Attachment("/m/s", "s.webp", kind="sticker", sticker=STICKER)


async def description(stickers: Stickers) -> str:
    found = (await stickers.described(FILE)).sticker
    assert found is not None
    return found.description


async def test_what_one_agent_saw_the_next_life_knows(tmp_path: Path) -> None:
    path = tmp_path / "sticker_cache.json"
    assert await description(Stickers(path)) == ""
    await Stickers(path).learn(STICKER, "a cat")
    assert await description(Stickers(path)) == "a cat"
    (kept,) = json.loads(path.read_text()).items()
    assert kept[0] == "AgAD1"
    assert {**kept[1], "cached_at": 0} == {"description": "a cat", "emoji": "😀", "set_name": "Cats", "cached_at": 0}


async def test_what_hermes_agent_kept_is_used(tmp_path: Path) -> None:
    path = tmp_path / "sticker_cache.json"
    path.write_text('{"AgAD1": {"description": "a dog", "cached_at": 1.5}, "odd": 3}')
    stickers = Stickers(path)
    assert await description(stickers) == "a dog"
    await stickers.learn(Sticker("other"), "x")
    assert set(json.loads(path.read_text())) == {"AgAD1", "other"}


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
async def test_a_broken_file_is_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sticker_cache.json"
    path.write_text(content)
    stickers = Stickers(path)
    assert await description(stickers) == ""
    await stickers.learn(STICKER, "a cat")
    assert await description(Stickers(path)) == "a cat"


async def test_a_disk_that_refuses_costs_the_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stickers = Stickers(tmp_path / "none" / "sticker_cache.json")
    await stickers.learn(STICKER, "a cat")
    assert "cannot keep" in caplog.text
    assert await description(stickers) == "a cat"
