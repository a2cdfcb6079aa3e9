"""Documents of the control API with every kind of row in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hermesd.supervisor.control.shapes import OwnProcess, PsDocument, StatusDocument, WorkerRow


@pytest.fixture
def now() -> datetime:
    """One hour after the workers of the samples were started."""
    return datetime(2026, 11, 22, 19, 0, 0, tzinfo=UTC)


@pytest.fixture
def ps_document() -> Callable[..., PsDocument]:
    """``ps_document(at=seconds)``: three workers, one of them busy with two MCP servers, one without a process."""
    return _ps_document


@pytest.fixture
def status_document() -> Callable[..., StatusDocument]:
    """``status_document(state="degraded")``: a healthy hermesd but for what is given."""
    return _status_document


def _worker(session: str, **changed: Any) -> WorkerRow:
    row: dict[str, Any] = {
        "worker": "w1", "session": session, "pid": 501, "state": "idle", "started_at": "2026-11-22T18:00:00Z",
        "idle_s": 12.0, "turn": None, "queue": 0, "restarts": 0, "cpu_percent": 0.0, "cpu_seconds": 1.5,
        "memory_bytes": 30 << 20, "processes": 1, "mcp": [], "platform": session.split(":")[2], "user": "ann",
    }  # fmt: skip
    return {**row, **changed}  # type: ignore[typeddict-item,return-value]


def _own(pid: int, cpu_seconds: float) -> OwnProcess:
    return {
        "pid": pid, "state": "running", "started_at": "2026-11-20T15:00:00Z", "cpu_percent": 0.5,
        "cpu_seconds": cpu_seconds, "memory_bytes": 50 << 20,
    }  # fmt: skip


def _processes() -> list[dict[str, Any]]:
    rows = [
        (501, 400, "hermesd-worker", ""),
        (510, 501, "npx -y server", "github"),
        (511, 510, "sh -c server", "github"),
        (512, 511, "/usr/bin/node /x/server.js --stdio", "github"),
        (520, 501, "python helper.py", ""),
    ]
    return [
        {
            "pid": pid,
            "ppid": ppid,
            "command": command,
            "state": "S",
            "cpu_seconds": 0.5,
            "memory_bytes": 1 << 20,
            "mcp": mcp,
        }
        for pid, ppid, command, mcp in rows
    ]


def _ps_document(at: float = 100.0) -> PsDocument:
    return {
        "schema": 1,
        "workers": [
            _worker(
                "agent:main:telegram:dm:42", worker="w3", pid=501, state="busy", turn="t9", turn_s=7.4, idle_s=None,
                queue=2, cpu_percent=98.7, cpu_seconds=727.3, memory_bytes=120 << 20, processes=5,
                mcp=[
                    {"name": "github", "pid": 510, "state": "ready", "cpu_seconds": 1.5, "memory_bytes": 3 << 20},
                    {"name": "time", "pid": None, "state": "starting", "cpu_seconds": None, "memory_bytes": None},
                ],
                tree=_processes(),
            ),
            _worker("agent:main:local:dm", worker="w4", pid=601),
            _worker(
                "agent:main:discord:dm:7", worker="", pid=None, state="backoff", started_at=None, idle_s=None,
                restarts=3, cpu_percent=None, retry_in_s=12.2, processes=0, memory_bytes=0, cpu_seconds=0.0,
            ),
        ],
        "supervisor": _own(300, 41.2),
        "keeper": _own(400, 0.3),
        "figures": {"source": "cgroup", "exact": True, "taken_at": "2026-11-22T19:00:00Z", "monotonic_s": at},
        "host": {
            "cores": 2, "load": 1.25, "cpu_percent": None, "cpu_seconds": 5000.0,
            "memory_total_bytes": 8 << 30, "memory_available_bytes": 5 << 30,
            "disk_total_bytes": 100 << 30, "disk_free_bytes": 60 << 30, "monotonic_s": at,
        },
    }  # fmt: skip


def _status_document(**changed: Any) -> StatusDocument:
    document: dict[str, Any] = {
        "schema": 1, "state": "running", "pid": 300, "version": "0.1.0", "instance": "0123456789ab",
        "home": "/home/ann/.hermes", "started_at": "2026-11-20T15:00:00Z", "uptime_s": 187_200.0,
        "loop": {"lag_ms_p99": 0.34},
        "platforms": [
            {"name": "api_server", "state": "online", "detail": "127.0.0.1:8642", "since": "2026-11-20T15:00:01Z",
             "received_at": "2026-11-22T18:57:00Z"},
        ],
        "workers": {"by_state": {"busy": 1, "idle": 2, "hibernated": 4, "backoff": 0}, "total": 3, "max": 64,
                    "running_turns": 1, "max_turns": 8, "waiting_turns": 0},
        "queues": {"inbox": 1, "outbox": 0, "oldest_s": 2.0, "dead": 0},
        "cpu": {"percent": 12.3, "seconds": 727.3}, "memory_bytes": 300 << 20,
        "containment": {"name": "subreaper", "refused": ["cgroup: cannot make /x: Permission denied"]},
        "journal": {"state": "ok", "reason": ""}, "warnings": [],
        "drain": {"everything": False, "sessions": []}, "log_tail": [],
    }  # fmt: skip
    return {**document, **changed}  # type: ignore[typeddict-item,return-value]
