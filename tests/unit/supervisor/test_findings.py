"""What doctor says of the machine, of containment and of leftovers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hermesd.supervisor import findings
from hermesd.supervisor.control.shapes import HostFigures, LeftoverRow

GIB = 1 << 30
HOME = Path("/home/ann/.hermes")


def host(**changed: Any) -> HostFigures:
    figures: dict[str, Any] = {
        "cores": 2, "load": 0.5, "cpu_percent": None, "cpu_seconds": 1.0,
        "memory_total_bytes": 8 * GIB, "memory_available_bytes": 4 * GIB,
        "disk_total_bytes": 100 * GIB, "disk_free_bytes": 50 * GIB, "monotonic_s": 1.0,
    }  # fmt: skip
    return {**figures, **changed}  # type: ignore[typeddict-item,return-value]


def test_a_machine_with_room_is_well_and_its_figures_are_told() -> None:
    told = {found["id"]: (found["severity"], found["message"]) for found in findings.of_host(host(), HOME)}
    assert told == {
        "load": ("ok", "load 0.50 on 2 cores"),
        "memory": ("ok", "4.0G of 8.0G of memory are available"),
        "disk": ("ok", "50.0G of 100.0G are free on the disk of /home/ann/.hermes"),
    }


@pytest.mark.parametrize(
    ("total", "free", "severity"),
    [
        (100 * GIB, int(5.1 * GIB), "ok"),
        (100 * GIB, int(4.9 * GIB), "warning"),
        (4000 * GIB, int(5.1 * GIB), "ok"),  # a hundredth of it, and yet enough
        (1 * GIB, 257 << 20, "ok"),
        (1 * GIB, 255 << 20, "warning"),  # a quarter of it, and yet nothing
    ],
)
def test_a_nearly_full_disk_is_a_warning_with_its_numbers(total: int, free: int, severity: str) -> None:
    *_, disk = findings.of_host(host(disk_total_bytes=total, disk_free_bytes=free), HOME)
    assert disk["severity"] == severity
    assert (f"{free / GIB:.1f}G of" if free >= GIB else f"{free / (1 << 20):.1f}M of") in disk["message"]


@pytest.mark.parametrize(("available", "severity"), [(GIB // 2, "ok"), (GIB // 3, "warning")])
def test_a_nearly_full_memory_is_a_warning(available: int, severity: str) -> None:
    _, memory, _ = findings.of_host(host(memory_available_bytes=available), HOME)
    assert memory["severity"] == severity


def test_without_cgroups_it_is_told_what_is_missed() -> None:
    [with_cgroup], [without] = findings.of_survivors("cgroup"), findings.of_survivors("subreaper")
    assert "until" not in with_cgroup["message"]
    assert "cleared its environment" in without["message"]
    assert "the next start of hermesd, or hermesctl doctor --fix, ends" in without["message"]


def test_it_is_told_which_limits_the_kernel_keeps_and_which_are_polled() -> None:
    [found] = findings.of_limits("cgroup v2", "")
    assert "memory_hard is kept by the kernel (cgroup v2)" in found["message"]
    assert "processes during a turn are polled every 250 ms" in found["message"]


def test_leftovers_are_counted_by_kind() -> None:
    process: LeftoverRow = {"kind": "process", "pid": 7, "memory_bytes": 3 << 20}
    rows: list[LeftoverRow] = [process, process, {"kind": "cgroup", "path": "/c"}, {"kind": "directory", "path": "/d"}]
    found = findings.of_leftovers(rows)
    assert found["severity"] == "warning"
    assert "2 processes, 1 cgroup and 1 directory with 6.0M of memory" in found["message"]
    assert found["fix"] == "hermesctl doctor --fix"
    assert findings.of_leftovers([])["severity"] == "ok"
