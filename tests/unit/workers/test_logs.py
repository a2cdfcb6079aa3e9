from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import UP
from hermesd.workers.logs import (
    BATCH,
    BATCH_TEXT,
    BURST,
    MAX_TEXT,
    MAX_WAITING,
    MAX_WAITING_TEXT,
    PER_SECOND,
    WireHandler,
    install,
    quieten,
)


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("agent", logging.INFO, "", 0, text, args, None)


def test_nothing_waits() -> None:
    assert WireHandler().take(0.0) is None


def test_records_keep_their_turn_and_order() -> None:
    handler = WireHandler()
    handler.turn = "t1"
    handler.emit(record("one %d", 1))
    handler.turn = ""
    handler.emit(record("two"))
    batch = handler.take(0.0)
    assert batch is not None
    assert [(entry.text, entry.turn, entry.pid) for entry in batch.records] == [("one 1", "t1", 0), ("two", "", 0)]


def test_a_record_that_cannot_be_formatted_does_not_end_its_caller() -> None:
    handler = WireHandler()
    handler.emit(record("%d", "no number"))
    batch = handler.take(0.0)
    assert batch is not None
    assert "cannot be formatted" in batch.records[0].text


def test_a_long_record_keeps_its_ends_and_unicode_is_mended() -> None:
    handler = WireHandler()
    handler.emit(record("begin" + "x" * 100_000 + "\ud800end"))
    batch = handler.take(0.0)
    assert batch is not None
    text = batch.records[0].text
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(text) < MAX_TEXT + 100
    Codec(*UP).pack(batch)


def test_beyond_the_room_the_oldest_are_dropped_and_counted_once() -> None:
    handler = WireHandler()
    for number in range(MAX_WAITING + 7):
        handler.add(0.0, logging.INFO, "agent", str(number))
    first, second = handler.take(0.0), handler.take(0.0)
    assert first is not None
    assert second is not None
    assert (first.dropped, second.dropped) == (7, 0)
    assert first.records[0].text == "7"
    assert len(first.records) == BATCH


def test_the_room_is_bounded_in_characters_too() -> None:
    handler = WireHandler()
    for number in range(2 * MAX_WAITING_TEXT // MAX_TEXT):
        handler.add(0.0, logging.INFO, "agent", f"{number:08d}" + "x" * (MAX_TEXT - 8))
    taken = handler.take(0.0, ending=True)
    assert taken is not None
    kept = len(taken.records)
    while (batch := handler.take(0.0, ending=True)) is not None:
        kept += len(batch.records)
    assert kept + taken.dropped == 2 * MAX_WAITING_TEXT // MAX_TEXT
    assert kept * MAX_TEXT <= MAX_WAITING_TEXT


def test_a_frame_of_long_records_is_small() -> None:
    handler = WireHandler()
    for _ in range(20):
        handler.add(0.0, logging.INFO, "agent", "x" * MAX_TEXT)
    batch = handler.take(0.0)
    assert batch is not None
    assert sum(len(entry.text) for entry in batch.records) <= BATCH_TEXT + MAX_TEXT


def test_a_burst_goes_at_once_and_then_so_many_a_second() -> None:
    handler = WireHandler()
    sent, now, late = 0, 100.0, 0
    for number in range(BURST + 1000):
        handler.add(0.0, logging.INFO, "agent", str(number))
        if number % 10 == 9:
            batch = handler.take(now)
            sent += len(batch.records) if batch is not None else 0
    assert sent == BURST
    while (due := handler.due(now)) is not None:
        now = max(now, due)
        batch = handler.take(now)
        late += len(batch.records) if batch is not None else 0
    assert late + sent >= BURST + 900
    assert now - 100.0 == pytest.approx(1000 / PER_SECOND, rel=0.3)


def test_a_worker_that_ends_sends_everything() -> None:
    handler = WireHandler()
    count = 0
    for number in range(2 * BURST):
        handler.add(0.0, logging.INFO, "agent", str(number))
        if number % BATCH == BATCH - 1 and (batch := handler.take(0.0, ending=True)) is not None:
            count += len(batch.records)
    assert count == 2 * BURST


def test_the_link_is_woken_by_the_first_that_waits() -> None:
    handler = WireHandler()
    woken: list[None] = []
    handler.notify(lambda: woken.append(None))
    assert handler.due(5.0) is None
    for _ in range(3):
        handler.emit(record("x"))
    assert len(woken) == 1
    assert handler.due(5.0) == 5.0
    handler.take(5.0)
    handler.emit(record("x"))
    assert len(woken) == 2


def test_a_childs_record_carries_its_pid() -> None:
    handler = WireHandler()
    handler.add(0.0, logging.INFO, "child", "x", pid=os.getpid() + 1)
    batch = handler.take(0.0)
    assert batch is not None
    assert batch.records[0].pid == os.getpid() + 1


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    yield found
    found.handlers[:] = handlers
    found.setLevel(level)


def test_installing_sets_the_levels_and_is_the_only_sink(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    logging.getLogger("httpx").setLevel(logging.INFO)
    handler = install("DEBUG")
    assert root.handlers == [handler]
    assert root.level == logging.DEBUG
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)


def test_a_worker_sets_no_level_that_its_keeper_has_set(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    root.setLevel("INFO")
    quieten()
    told: list[str] = []
    monkeypatch.setattr(logging.Logger, "setLevel", lambda logger, level: told.append(logger.name))
    install("INFO")
    monkeypatch.undo()
    assert told == []
