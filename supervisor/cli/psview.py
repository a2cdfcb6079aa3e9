"""The rows of ``ps`` and ``top``: choosing, sorting and arranging workers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from . import render, words
from .render import Column, Paint

if TYPE_CHECKING:
    from hermesd.supervisor.control.shapes import OwnProcess, ProcessRow, PsDocument, ServerRow, WorkerRow

SORTS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "session": (lambda row: row["session"], False),
    "cpu": (lambda row: (row["cpu_percent"] or 0.0, row["cpu_seconds"]), True),
    "cpu-time": (lambda row: row["cpu_seconds"], True),
    "mem": (lambda row: row["memory_bytes"], True),
    "queue": (lambda row: row["queue"], True),
    "restarts": (lambda row: row["restarts"], True),
    "idle": (lambda row: row["idle_s"] or 0.0, True),
    "age": (lambda row: row["started_at"] or "9", False),
    "state": (lambda row: row["state"], False),
}
"""What --sort takes: how to read it from a row, and whether the greatest comes first."""

FILTERS = ("worker", "session", "pid", "state", "turn", "queue", "restarts", "platform", "user")


class Layout(NamedTuple):
    """Which columns are shown."""

    wide: bool = False
    tree: bool = False
    live: bool = False  # top: what changes, and not what only grows


class Row(NamedTuple):
    """One line before it becomes cells: a worker, a server, a process or one of our own processes."""

    depth: int
    name: str
    cells: dict[str, str]


_COLUMNS: dict[str, Column] = {
    "SESSION": Column("SESSION", shrinks=True),
    "PLATFORM": Column("PLATFORM"),
    "USER": Column("USER", shrinks=True),
    "WORKER": Column("WORKER"),
    "PID": Column("PID", right=True),
    "STATE": Column("STATE", states=True),
    "AGE": Column("AGE", right=True),
    "IDLE": Column("IDLE", right=True),
    "TURN": Column("TURN", right=True),
    "TURN-ID": Column("TURN-ID"),
    "QUEUE": Column("QUEUE", right=True),
    "RESTARTS": Column("RESTARTS", right=True),
    "CPU%": Column("CPU%", right=True),
    "CPU-TIME": Column("CPU-TIME", right=True),
    "MEM": Column("MEM", right=True),
    "PROCS": Column("PROCS", right=True),
    "MCP": Column("MCP", shrinks=True),
    "COMMAND": Column("COMMAND", shrinks=True),
}


def chosen_columns(layout: Layout) -> list[str]:
    hidden = {"PLATFORM", "USER", "TURN-ID", "PROCS", "COMMAND"}
    if layout.wide:
        hidden -= {"PLATFORM", "USER", "TURN-ID", "PROCS"}
    if layout.tree:
        hidden = hidden - {"COMMAND"} | {"MCP", "IDLE"}
    if layout.live:
        hidden = hidden - {"PROCS"} | {"AGE", "IDLE", "RESTARTS"}
    return [name for name in _COLUMNS if name not in hidden]


def sort(rows: Sequence[WorkerRow], key: str) -> list[WorkerRow]:
    read, greatest_first = SORTS[key]
    return sorted(sorted(rows, key=SORTS["session"][0]), key=read, reverse=greatest_first)


def parse_filter(text: str) -> tuple[str, str]:
    """``state=busy``, ``session=*telegram*``. Raises ValueError with a sentence."""
    key, found, pattern = text.partition("=")
    if not found or key not in FILTERS:
        raise ValueError(f"{text!r} is not a filter; use KEY=VALUE, where KEY is one of {', '.join(FILTERS)}")
    return key, pattern


def matches(row: WorkerRow, filters: Sequence[tuple[str, str]]) -> bool:
    """Whether all filters fit; values are patterns as in a shell."""
    values: dict[str, Any] = {**row}
    return all(fnmatchcase("" if values[key] is None else str(values[key]), pattern) for key, pattern in filters)


def headline(document: PsDocument, total: int) -> str:
    """How many of ``total`` workers there are and where the figures come from. A session without one is no worker."""
    shown = count_workers(document)
    figures = document["figures"]
    source = {"cgroup": "cgroup", "proc": "a scan of /proc"}.get(figures["source"], words.safe(figures["source"]))
    exact = "exact, with the dead" if figures["exact"] else "the dead that nobody waited for may be missing"
    some = f"{shown} of {words.count(total, 'worker')}" if shown != total else words.count(total, "worker")
    resting = len(document["workers"]) - shown
    without = f", {words.count(resting, 'session')} without one" if resting else ""
    return f"{some}{without}; CPU and memory from {source} ({exact})"


def count_workers(document: PsDocument) -> int:
    return sum(row["worker"] != "" for row in document["workers"])


def lines(
    document: PsDocument, layout: Layout, now: datetime, paint: Paint, width: int | None, own: bool = False
) -> list[str]:
    """The table. ``own``: with rows for hermesd and the keeper, which a tree always has."""
    rows = list(_tree(document, now)) if layout.tree else list(_flat(document, now, own))
    names = chosen_columns(layout)
    prefixes = render.branches([row.depth for row in rows])
    cells = [
        [prefix + row.name if name == "SESSION" else row.cells.get(name, "") for name in names]
        for prefix, row in zip(prefixes, rows, strict=True)
    ]
    return render.table([_COLUMNS[name] for name in names], cells, paint, width)


def _flat(document: PsDocument, now: datetime, own: bool) -> Iterator[Row]:
    for worker in document["workers"]:
        yield _worker(worker, now, 0)
    if own:
        yield _own("hermesd", document["supervisor"], now, 0)
        if document["keeper"] is not None:
            yield _own("keeper", document["keeper"], now, 0)


def _tree(document: PsDocument, now: datetime) -> Iterator[Row]:
    yield _own("hermesd", document["supervisor"], now, 0)
    depth = 1
    if document["keeper"] is not None:
        yield _own("keeper", document["keeper"], now, 1)
        depth = 2
    for worker in document["workers"]:
        yield _worker(worker, now, depth)
        processes = [process for process in worker.get("tree", []) if process["pid"] != worker["pid"]]
        for server in worker["mcp"]:
            yield _server(server, processes, depth + 1)
            inside = [process for process in processes if process["mcp"] == server["name"]]
            yield from _processes([process for process in inside if process["pid"] != server["pid"]], depth + 2)
        servers = {server["name"] for server in worker["mcp"]}
        yield from _processes([process for process in processes if process["mcp"] not in servers], depth + 1)


def _processes(processes: Sequence[ProcessRow], depth: int) -> Iterator[Row]:
    pids = {process["pid"] for process in processes}

    def below(parent: ProcessRow | None, level: int) -> Iterator[Row]:
        for process in processes:
            mine = process["ppid"] not in pids if parent is None else process["ppid"] == parent["pid"]
            if mine:
                yield _process(process, level)
                yield from below(process, level + 1)

    yield from below(None, depth)


def _worker(row: WorkerRow, now: datetime, depth: int) -> Row:
    retry = row.get("retry_in_s")
    turn = row.get("turn_s")
    silent = row.get("heard_s") if "silent_s" in row else None
    note = words.short_duration(retry) if retry is not None else ""
    if silent is not None:
        note = f"silent {words.short_duration(silent)}"
    return Row(
        depth,
        words.safe(row["session"] or (f"(mcp {row['serves']})" if "serves" in row else "(spare)")),
        {
            "PLATFORM": words.safe(row["platform"]) or words.NOTHING,
            "USER": words.safe(row["user"]) or words.NOTHING,
            "WORKER": words.safe(row["worker"]) or words.NOTHING,
            "PID": _number(row["pid"]),
            "STATE": words.safe(row["state"]) + (f"({note})" if note else ""),
            "AGE": words.short_duration(words.seconds_since(row["started_at"], now)),
            "IDLE": words.short_duration(row["idle_s"]),
            "TURN": words.short_duration(turn) if turn is not None else words.safe(row["turn"] or words.NOTHING),
            "TURN-ID": words.safe(row["turn"] or words.NOTHING),
            "QUEUE": str(row["queue"]),
            "RESTARTS": str(row["restarts"]),
            "CPU%": words.percent(row["cpu_percent"]),
            "CPU-TIME": words.cpu_time(row["cpu_seconds"]),
            "MEM": words.size(row["memory_bytes"]),
            "PROCS": str(row["processes"]),
            "MCP": ",".join(_server_name(server) for server in row["mcp"]) or words.NOTHING,
        },
    )


def _server_name(server: ServerRow) -> str:
    name = words.safe(server["name"])
    return name if server["state"] == "ready" else f"{name}({words.safe(server['state'])})"


def _server(server: ServerRow, processes: Sequence[ProcessRow], depth: int) -> Row:
    command = next((process["command"] for process in processes if process["pid"] == server["pid"]), "")
    return Row(
        depth,
        f"mcp {words.safe(server['name'])}",
        {
            "PID": _number(server["pid"]),
            "STATE": words.safe(server["state"]),
            "CPU-TIME": words.cpu_time(server["cpu_seconds"]),
            "MEM": words.size(server["memory_bytes"]),
            "COMMAND": words.safe(command),
        },
    )


def _process(process: ProcessRow, depth: int) -> Row:
    program = process["command"].split(" ")[0].rsplit("/", 1)[-1]
    return Row(
        depth,
        words.safe(program or "?"),
        {
            "PID": str(process["pid"]),
            "STATE": words.safe(process["state"]),
            "CPU-TIME": words.cpu_time(process["cpu_seconds"]),
            "MEM": words.size(process["memory_bytes"]),
            "COMMAND": words.safe(process["command"]),
        },
    )


def _own(name: str, process: OwnProcess, now: datetime, depth: int) -> Row:
    return Row(
        depth,
        name,
        {
            "WORKER": words.NOTHING,
            "PID": str(process["pid"]),
            "STATE": words.safe(process["state"]),
            "AGE": words.short_duration(words.seconds_since(process["started_at"], now)),
            "CPU%": words.percent(process["cpu_percent"]),
            "CPU-TIME": words.cpu_time(process["cpu_seconds"]),
            "MEM": words.size(process["memory_bytes"]),
        },
    )


def _number(value: int | None) -> str:
    return words.NOTHING if value is None else str(value)
