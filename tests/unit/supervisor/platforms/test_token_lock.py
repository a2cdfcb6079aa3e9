"""The lock that hermesd and hermes-agent's gateway share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.contract import Identity
from hermesd.supervisor.instance.process import start_ticks
from hermesd.supervisor.platforms.token_lock import TokenLock, directory

IDENTITY = Identity("telegram-bot-token", "123:abc")
NAME = "telegram-bot-token-f221311c7ec8b6e8.lock"  # sha256("123:abc")[:16]


@pytest.fixture
def lock(tmp_path: Path) -> TokenLock:
    return TokenLock(IDENTITY, {"HERMES_GATEWAY_LOCK_DIR": str(tmp_path)}, tmp_path / "home")


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def write(lock: TokenLock, **record: Any) -> None:
    lock.path.write_text(json.dumps({"kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"], **record}))


def test_the_place_is_that_of_hermes_agent(tmp_path: Path) -> None:
    assert directory({"HERMES_GATEWAY_LOCK_DIR": "/x"}) == Path("/x")
    assert directory({"XDG_STATE_HOME": "/s"}) == Path("/s/hermes/gateway-locks")
    assert directory({"HOME": "/h"}) == Path("/h/.local/state/hermes/gateway-locks")


def test_the_record_is_one_that_hermes_agent_reads(lock: TokenLock) -> None:
    assert lock.take() is None
    assert lock.path.name == NAME
    record = json.loads(lock.path.read_text())
    assert (record["pid"], record["kind"], record["scope"]) == (os.getpid(), "hermes-gateway", "telegram-bot-token")
    assert record["identity_hash"] == NAME.split("-")[-1].removesuffix(".lock")
    assert "123:abc" not in lock.path.read_text()
    assert lock.path.stat().st_mode & 0o777 == 0o600


def test_who_holds_it_takes_it_again(lock: TokenLock) -> None:
    assert lock.take() is None
    assert lock.take() is None


def test_a_living_owner_is_named(lock: TokenLock, other: subprocess.Popen[bytes]) -> None:
    write(lock, pid=other.pid, start_time=start_ticks(other.pid))
    owner = lock.take()
    assert owner is not None
    assert str(owner) == f"hermes gateway run (pid {other.pid})"
    lock.release()
    assert lock.path.exists()  # another's is not ours to give up


def test_a_stopped_owner_does_not_hold_it(lock: TokenLock, other: subprocess.Popen[bytes]) -> None:
    write(lock, pid=other.pid, start_time=start_ticks(other.pid))
    other.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
    assert lock.take() is None


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"pid": "x"}', '{"pid": 999999999}'])
def test_what_names_no_living_owner_is_no_lock(lock: TokenLock, content: str) -> None:
    lock.path.write_text(content)
    assert lock.take() is None


def test_a_pid_that_is_another_process_by_now(lock: TokenLock, other: subprocess.Popen[bytes]) -> None:
    write(lock, pid=other.pid, start_time=start_ticks(other.pid) + 1)
    assert lock.take() is None


def test_a_release_takes_the_file_away(lock: TokenLock) -> None:
    lock.take()
    lock.release()
    assert not lock.path.exists()
    lock.release()


def test_of_two_that_find_a_dead_ones_lock_one_gets_it(
    lock: TokenLock, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lock, pid=0)
    read, reads = TokenLock._read, []

    def slow(self: TokenLock, path: Path | None = None) -> dict[str, Any] | None:
        found = read(self, path)
        reads.append(found)
        if len(reads) == 1:  # the other one has seen the same, and is faster
            lock.path.unlink()
            write(lock, pid=other.pid, start_time=start_ticks(other.pid))
        return found

    monkeypatch.setattr(TokenLock, "_read", slow)
    owner = lock.take()
    assert owner is not None
    assert owner.pid == other.pid
    assert json.loads(lock.path.read_text())["pid"] == other.pid
    assert [path.name for path in lock.path.parent.iterdir()] == [lock.path.name]
