from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hermesd.supervisor.instance import pidfile
from hermesd.supervisor.instance.pidfile import Record
from hermesd.supervisor.instance.process import boot_id, start_ticks


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return pidfile.own_record(tmp_path / "control.sock")


def test_what_was_written_is_read(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "hermesd.pid"
    pidfile.write(path, record)
    assert pidfile.read(path) == record
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["hermesd.pid"]
    assert set(json.loads(path.read_text())) >= {"pid", "start_ticks", "boot_id", "version", "control_socket"}


def test_an_older_file_is_replaced_whatever_it_is(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "hermesd.pid"
    for make in (
        path.mkdir,
        lambda: path.symlink_to("/nowhere"),
        lambda: os.mkfifo(path),
        lambda: path.write_bytes(b"?"),
    ):
        make()
        pidfile.write(path, record)
        assert pidfile.read(path) == record
        path.unlink()


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 100, b"garbage", b"{", b"{}", b"[1]", b"null", b"true", b"-5", b"0", b'{"pid": "1"}',
     b'{"pid": true}', b'{"pid": 99999999999999}', b"\xff\xfe", b"[" * 100_000],
)  # fmt: skip
def test_garbage_is_no_record(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(raw)
    assert pidfile.read(tmp_path / "p") is None


def test_a_bare_pid_and_unknown_or_wrong_fields_are_taken_for_what_they_are() -> None:
    assert pidfile.parse(b" 42\n") == Record(42)
    assert pidfile.parse(b'{"pid": 42, "start_ticks": "x", "more": 1, "version": "9"}') == Record(42, version="9")


def test_what_cannot_be_read_is_no_record_and_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("missing", "fifo", "directory", "link"):
        assert pidfile.read(tmp_path / name) is None


def test_only_the_very_same_process_is_alive(record: Record) -> None:
    assert record.is_alive()
    assert Record(os.getpid()).is_alive()
    assert not replace(record, start_ticks=record.start_ticks + 1).is_alive()
    assert not replace(record, boot_id="another boot").is_alive()
    assert not Record(2**22 + 1).is_alive()  # above every pid that Linux gives


def test_start_ticks_are_the_kernels(tmp_path: Path) -> None:
    assert 0 < start_ticks(1) <= start_ticks(os.getpid())
    assert start_ticks(2**22 + 1) == 0
    assert len(boot_id()) == 36


def test_remove_leaves_the_record_of_another_process_alone(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "hermesd.pid"
    pidfile.write(path, replace(record, pid=1))
    pidfile.remove(path)
    assert path.exists()
    pidfile.write(path, record)
    pidfile.remove(path)
    assert not path.exists()
    pidfile.remove(path)
