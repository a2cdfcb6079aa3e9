"""The keys of an instance's workers, over the lives of hermesd."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hermesd.supervisor.errors import StartFailed
from hermesd.supervisor.pool.curve import Keys


def allows(keys: Keys, public: str) -> bool:
    return keys.server(lambda: None).allowed(public.encode())


def test_a_worker_is_let_in_from_its_start_to_its_end(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "curve")
    told = keys.issue("w1")
    assert allows(keys, told.public)
    assert not allows(keys, keys.issue("w2").public[::-1])
    keys.revoke("w1")
    assert not allows(keys, told.public)
    assert [path.name for path in sorted((tmp_path / "curve").iterdir())] == ["hermesd.key", "w2.pub"]


def test_who_is_refused_is_told_of(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "curve")
    refused: list[None] = []
    server = keys.server(lambda: refused.append(None))
    assert server.allowed(keys.issue("w1").public.encode())
    assert not server.allowed(b"x" * 40)
    assert len(refused) == 1


def test_a_later_hermesd_proves_itself_with_the_same_key_and_knows_whom_it_expects(tmp_path: Path) -> None:
    earlier = Keys(tmp_path / "curve")
    living, dead = earlier.issue("w1"), earlier.issue("w2")
    later = Keys(tmp_path / "curve")
    assert later.server(lambda: None).secret == earlier.server(lambda: None).secret
    later.expect("w1")
    later.expect("w3")
    later.forget_others()
    assert later.issue("w9").server == living.server
    assert allows(later, living.public)
    assert not allows(later, dead.public)
    assert not (tmp_path / "curve" / "w2.pub").exists()


def test_only_the_owner_may_read_them_and_no_worker_secret_is_kept(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "curve")
    told = keys.issue("w1")
    assert told.secret not in repr(told)
    files = list((tmp_path / "curve").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "curve").stat().st_mode) == 0o700
    assert not any(told.secret.encode() in path.read_bytes() for path in files)


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "curve").write_text("a file")
    with pytest.raises(StartFailed, match="cannot keep the keys of workers in"):
        Keys(tmp_path / "curve")
