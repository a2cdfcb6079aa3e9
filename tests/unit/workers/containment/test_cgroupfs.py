from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hermesd.workers.containment import cgroup, cgroupfs
from hermesd.workers.containment.cgroupfs import Mount, directory, parse_mounts, parse_own_path
from hermesd.workers.containment.errors import ContainmentError, Unsupported

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
BOUND = r"50 23 0:26 /docker/abc /mnt/with\040space rw - cgroup2 cgroup2 rw" + "\n"


def test_the_v2_mount_is_found_wherever_it_is() -> None:
    assert parse_mounts(UNIFIED) == [Mount("/sys/fs/cgroup", "/")]
    assert parse_mounts(HYBRID) == [Mount("/sys/fs/cgroup/unified", "/")]
    assert parse_mounts(BOUND) == [Mount("/mnt/with space", "/docker/abc")]
    assert parse_mounts("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n") == []


def test_the_own_path_is_the_line_of_hierarchy_zero() -> None:
    assert parse_own_path("9:name=systemd:/x\n1:cpu:/y\n0::/user.slice/a b\n") == "/user.slice/a b"
    assert parse_own_path("0::/gone (deleted)\n") == "/gone"
    assert parse_own_path("9:name=systemd:/x\n") == ""


def test_the_own_directory_is_below_the_mount() -> None:
    assert directory(Mount("/sys/fs/cgroup", "/"), "/") == "/sys/fs/cgroup"
    assert directory(Mount("/sys/fs/cgroup", "/"), "/a/b") == "/sys/fs/cgroup/a/b"
    assert directory(Mount("/mnt", "/docker/abc"), "/docker/abc/x") == "/mnt/x"
    assert directory(Mount("/mnt", "/docker/abc"), "/docker/abc") == "/mnt"


def test_a_cgroup_that_is_not_visible_is_refused_with_a_reason() -> None:
    with pytest.raises(Unsupported, match="outside of this cgroup namespace"):
        directory(Mount("/sys/fs/cgroup", "/"), "/../x")
    with pytest.raises(Unsupported, match="not visible at /mnt, which shows /docker/abc"):
        directory(Mount("/mnt", "/docker/abc"), "/docker/abcd")


@pytest.mark.parametrize(
    ("here", "base"),
    [
        ("/cg/user.slice", "/cg/user.slice/hermesd-0123456789ab"),
        ("/cg/x/hermesd-0123456789ab/keeper", "/cg/x/hermesd-0123456789ab"),
        ("/cg/x/hermesd-0123456789ab/w-1/agent", "/cg/x/hermesd-0123456789ab"),
        ("/cg/hermesd-ffffffffffff/w-1/agent", "/cg/hermesd-ffffffffffff/w-1/agent/hermesd-0123456789ab"),
        ("/cg/hermesd-0123456789abc", "/cg/hermesd-0123456789abc/hermesd-0123456789ab"),
    ],
)
def test_every_process_finds_the_same_base(monkeypatch, here, base) -> None:
    monkeypatch.setattr(cgroupfs, "directory_of", lambda pid: here)
    assert cgroup.base_of("0123456789ab") == base


def test_a_cgroup_that_is_removed_while_it_is_looked_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left").mkdir()
    real = os.walk

    def walk(top: str) -> Any:
        for folder, children, files in real(top):
            yield folder, [*children, "removed"], files

    monkeypatch.setattr(os, "walk", walk)
    assert cgroupfs.named_below([Mount(str(tmp_path), "/")], ["left", "removed"]) == [f"{tmp_path}/left"]


def test_a_keeper_makes_its_place_again_when_one_that_leaves_has_removed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[str] = []

    def enter(leaf: str) -> None:
        entered.append(leaf)
        if len(entered) == 1:
            os.rmdir(leaf)
            os.rmdir(os.path.dirname(leaf))
            raise ContainmentError("cannot enter it: No such file or directory")

    monkeypatch.setattr(cgroupfs, "enter", enter)
    monkeypatch.setattr(cgroup.prctl, "set_child_subreaper", lambda: None)
    base = tmp_path / "hermesd-0123456789ab"
    cgroup.CgroupContainment("0123456789ab", str(base)).prepare()
    assert entered == [f"{base}/keeper-{os.getpid()}"] * 2
    assert os.path.isdir(entered[0])


def test_a_directory_above_that_another_keeper_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, real = tmp_path / "hermesd-0123456789ab", os.mkdir
    taken_away: list[bool] = []

    def mkdir(path: Any, mode: int = 0o777) -> None:
        if os.fspath(path) != str(base) and not taken_away:
            taken_away.append(True)
            base.rmdir()
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    cgroup._make(f"{base}/probe-1")
    assert taken_away == [True]
    assert (base / "probe-1").is_dir()
