from __future__ import annotations

import logging
import os

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import UP, Logs
from hermesd.workers.logs import BATCH, MAX_TEXT, MAX_WAITING, WireHandler


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
        handler.emit(record(str(number)))
    batches: list[Logs] = []
    while (batch := handler.take(0.0)) is not None:
        batches.append(batch)
    assert [batch.dropped for batch in batches] == [7] + [0] * (MAX_WAITING // BATCH - 1)
    assert batches[0].records[0].text == "7"
    assert all(len(batch.records) == BATCH for batch in batches)


def test_a_childs_record_carries_its_pid() -> None:
    handler = WireHandler()
    handler.add(0.0, logging.INFO, "child", "x", pid=os.getpid() + 1)
    batch = handler.take(0.0)
    assert batch is not None
    assert batch.records[0].pid == os.getpid() + 1
