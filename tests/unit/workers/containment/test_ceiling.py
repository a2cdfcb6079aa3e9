"""Ceilings that the kernel keeps: where its controllers are, and what is written where."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hermesd.workers.containment import ceiling, cgroupfs
from hermesd.workers.containment.ceiling import NOBODY, V1, V2, Ceiling, Ceilings
from hermesd.workers.containment.errors import ContainmentError

INSTANCE = "0123456789ab"

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_a_controller_is_found_in_its_own_hierarchy_of_v1() -> None:
    assert [mount.point for mount in cgroupfs.parse_mounts(HYBRID, "memory")] == ["/sys/fs/cgroup/memory"]
    assert [mount.point for mount in cgroupfs.parse_mounts(HYBRID, "cpuacct")] == ["/sys/fs/cgroup/cpu"]
    assert [mount.point for mount in cgroupfs.parse_mounts(HYBRID)] == ["/sys/fs/cgroup/unified"]
    assert cgroupfs.parse_mounts(HYBRID, "pids") == []


def test_the_place_of_a_process_is_told_for_each_hierarchy() -> None:
    text = "8:pids:/a\n5:cpu,cpuacct:/b:c\n1:name=systemd:/d\n0::/e (deleted)\n"
    assert [cgroupfs.parse_own_path(text, name) for name in ("pids", "cpuacct", "memory")] == ["/a", "/b:c", ""]
    assert cgroupfs.parse_own_path(text) == "/e"


def test_a_delegated_controller_of_v2_is_switched_on_and_the_container_gets_the_limits(tmp_path: Path) -> None:
    """The kernel's files as they are there; what the kernel makes of them is not looked at here."""
    base, container = tmp_path / "hermesd", tmp_path / "hermesd" / "w-w1"
    container.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    (base / "cgroup.subtree_control").write_text("")
    for name in ("memory.max", "memory.oom.group", "memory.events", "pids.max"):
        (container / name).write_text("")
    found = Ceilings(INSTANCE, str(base))
    assert (found.memory, found.tasks) == (V2, V2)
    assert (base / "cgroup.subtree_control").read_text().startswith("+pids")  # the last of two writes
    held = found.hold("w1", Ceiling(1 << 30, 100), str(container))
    written = {name: (container / name).read_text() for name in ("memory.max", "memory.oom.group", "pids.max")}
    assert written == {"memory.max": str(1 << 30), "memory.oom.group": "1", "pids.max": "100"}
    assert (held.places, held.ran_out()) == ([], False)
    (container / "memory.events").write_text("low 0\nmax 31\noom 1\noom_kill 3\noom_group_kill 1\n")
    assert held.ran_out()
    held.release()


def test_a_controller_of_a_real_v2_is_handed_down_unless_processes_are_in_the_way() -> None:
    """By whichever controller is there, for on hybrid systems memory and pids are in v1; the kernel's rules are one."""
    mounts = cgroupfs.parse_mounts(Path("/proc/self/mountinfo").read_text())
    controllers = [(Path(mount.point), name) for mount in mounts for name in _controllers(Path(mount.point))]
    if os.geteuid() != 0 or not controllers:
        pytest.skip("no cgroup v2 with a controller that root may hand down here")
    root, name = controllers[0]
    base = root / f"hermesd-{INSTANCE}"
    switched_on = name in (root / "cgroup.subtree_control").read_text().split()
    (root / "cgroup.subtree_control").write_text(f"+{name}")
    try:
        base.mkdir()
        with subprocess.Popen(["sleep", "60"]) as inside:
            (base / "cgroup.procs").write_text(str(inside.pid))
            assert not ceiling._delegated(str(base), name)
            inside.kill()
        base.mkdir(exist_ok=True)
        (base / "keeper").mkdir()  # so that the place stays, as with a keeper in it
        assert ceiling._delegated(str(base), name)
        assert list((base / "keeper").glob(f"{name}.*"))
        assert not ceiling._delegated(str(base), "no-such")
    finally:
        for place in (base / "keeper", base):
            if place.exists():
                place.rmdir()
        if not switched_on:
            (root / "cgroup.subtree_control").write_text(f"-{name}")


def _controllers(root: Path) -> list[str]:
    return (root / "cgroup.controllers").read_text().split()


def test_where_the_controllers_are_elsewhere_nobody_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "_mounts", lambda controller: [])
    found = Ceilings(INSTANCE, str(tmp_path / "hermesd"))
    assert (found.memory, found.tasks) == (NOBODY, NOBODY)
    assert found.hold("w1", Ceiling(1 << 30, 100)).places == []
    assert not (tmp_path / "hermesd").exists()


def test_in_v1_a_worker_has_directories_of_its_own_that_are_gone_after_it() -> None:
    found = Ceilings(INSTANCE)
    if V1 not in (found.memory, found.tasks):
        pytest.skip("no hierarchy of cgroup v1 with memory or pids can be written to here")
    held = found.hold("w1", Ceiling(1 << 30, 100))
    try:
        assert all(place.endswith(f"/hermesd-{INSTANCE}/w-w1") for place in held.places)
        assert not held.ran_out()
        again = Ceilings(INSTANCE).find("w1")
        assert again.places == held.places
        again.places.clear()
        again.release()
    finally:
        held.release()
        found.leave()
    assert Ceilings(INSTANCE).find("w1").places == []


def test_what_cannot_be_limited_says_so(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory")
    (tmp_path / "cgroup.subtree_control").write_text("")
    with pytest.raises(ContainmentError, match="cannot limit memory of w1"):
        Ceilings(INSTANCE, str(tmp_path)).hold("w1", Ceiling(1 << 30), str(tmp_path / "missing"))
