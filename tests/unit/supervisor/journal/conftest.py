"""A journal's database without its thread, and a message to put into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hermesd.adapters.contract import Inbound
from hermesd.supervisor.journal.database import open_for_writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_writing(path)) as opened:
        yield opened


@pytest.fixture
def message() -> Callable[..., Inbound]:
    """Messages that differ in their id, counted from 1, and in what is given."""
    count = 0

    def make(**fields: object) -> Inbound:
        nonlocal count
        count += 1
        given = {"platform": "fake", "chat_id": "c1", "message_id": f"m{count}", "user_id": "u1", "text": "hello"}
        return Inbound(**(given | fields))  # type: ignore[arg-type]

    return make
