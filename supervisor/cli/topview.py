"""What ``hermesctl top`` shows and how keys change it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from . import psview, words
from .render import Paint, cut

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import HostFigures, OwnProcess, PsDocument, StatusDocument

SORT_KEYS: Mapping[str, str] = {"P": "cpu", "M": "mem", "Q": "queue", "T": "cpu-time"}

HELP = (
    "P  by CPU          t      with MCP servers and processes",
    "M  by memory       space  pause",
    "Q  by queue        ?      this help",
    "T  by CPU time     q      quit",
)


@dataclass(frozen=True, slots=True)
class View:
    """What the user has chosen."""

    sort: str = "cpu"
    tree: bool = False
    paused: bool = False
    help: bool = False
    over: bool = False


def press(view: View, key: str) -> View:
    """The view after a key; keys that mean nothing change nothing."""
    if key in SORT_KEYS:
        return replace(view, sort=SORT_KEYS[key])
    match key:
        case "t":
            return replace(view, tree=not view.tree)
        case " ":
            return replace(view, paused=not view.paused)
        case "?" | "h":
            return replace(view, help=not view.help)
        case "q":
            return replace(view, over=True)
    return view


class Sample(NamedTuple):
    """One look at hermesd."""

    ps: PsDocument
    status: StatusDocument


def measured(before: PsDocument, after: PsDocument) -> PsDocument:
    """``after`` with the CPU percentages between the two, by the clock of hermesd.

    What was not there before keeps the figure that hermesd gave it, and so does all when both are the same sample.
    """
    elapsed = after["figures"]["monotonic_s"] - before["figures"]["monotonic_s"]
    if elapsed <= 0:
        return after
    earlier = {row["worker"]: row["cpu_seconds"] for row in before["workers"] if row["worker"]}
    workers = [row.copy() for row in after["workers"]]
    for row in workers:
        if row["worker"] in earlier:
            row["cpu_percent"] = _percent(earlier[row["worker"]], row["cpu_seconds"], elapsed)
    document = after.copy()
    document["workers"] = workers
    document["supervisor"] = _own(before["supervisor"], after["supervisor"], elapsed)
    if before["keeper"] is not None and after["keeper"] is not None:
        document["keeper"] = _own(before["keeper"], after["keeper"], elapsed)
    document["host"] = _host(before["host"], after["host"])
    return document


def _host(before: HostFigures, after: HostFigures) -> HostFigures:
    host = after.copy()
    elapsed = after["monotonic_s"] - before["monotonic_s"]
    if elapsed > 0:
        used = _percent(before["cpu_seconds"], after["cpu_seconds"], elapsed)
        host["cpu_percent"] = min(100.0, used / after["cores"])
    return host


def _own(before: OwnProcess, after: OwnProcess, elapsed: float) -> OwnProcess:
    process = after.copy()
    if before["pid"] == after["pid"]:
        process["cpu_percent"] = _percent(before["cpu_seconds"], after["cpu_seconds"], elapsed)
    return process


def _percent(before: float, after: float, elapsed: float) -> float:
    return max(0.0, (after - before) / elapsed * 100)


def host_line(host: HostFigures) -> str:
    """The machine in one line."""
    cpu = "" if host["cpu_percent"] is None else f" CPU {host['cpu_percent']:.0f} %,"
    memory, disk = host["memory_total_bytes"], host["disk_total_bytes"]
    return (
        f"host: {words.count(host['cores'], 'core')},{cpu} load {host['load']:.2f},"
        f" memory {words.size(memory - host['memory_available_bytes'])} of {words.size(memory)},"
        f" disk {words.size(disk - host['disk_free_bytes'])} of {words.size(disk)}"
    )


def screen(sample: Sample, view: View, now: datetime, paint: Paint, width: int | None, trouble: str = "") -> list[str]:
    """All lines of the screen; the terminal cuts those that do not fit. ``trouble``: why the figures are old."""
    document = sample.ps.copy()
    document["workers"] = psview.sort(document["workers"], view.sort)
    status = sample.status
    turns = status["workers"]
    loop = status["loop"]["lag_ms_p99"]
    head = [
        f"hermesd {status['version']}, pid {status['pid']}, {status['state']} for {words.duration(status['uptime_s'])},"
        f" loop {loop:.1f} ms late (p99); {turns['running_turns']} of {turns['max_turns']} turns running,"
        f" {turns['waiting_turns']} waiting",
        host_line(document["host"]),
        f"{'paused, ' if view.paused else ''}by {view.sort};"
        f" {psview.headline(document, psview.count_workers(document))}",
    ]
    lines = [line if width is None else cut(line, width) for line in head]
    if trouble:
        lines.append(paint(words.safe(trouble), "red"))
    if view.help:
        lines += ["", *HELP]
    layout = psview.Layout(tree=view.tree, live=True)
    return [*lines, "", *psview.lines(document, layout, now, paint, width, own=True)]
