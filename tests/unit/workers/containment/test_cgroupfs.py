from __future__ import annotations

import pytest

from hermesd.workers.containment import cgroup, cgroupfs
from hermesd.workers.containment.cgroupfs import Mount, directory, parse_mounts, parse_own_path
from hermesd.workers.containment.errors import Unsupported

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
