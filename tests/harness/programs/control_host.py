"""A process that serves the control API with live values: its own pid, two real workers, a log. Run by the tests.

``control_host.py HOME [--contain] [--quiet]``: ``--contain`` takes every other process as contained, ``--quiet`` cuts
the limits, so that a silent client is noticed soon. Prints "ready" when it listens. Ends on the verb ``stop``, at
SIGTERM and when its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hermesd.ipc.version import VERSION
from hermesd.supervisor import host
from hermesd.supervisor.control.api import VERBS, Done
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.server import ControlServer, Limits
from hermesd.supervisor.instance import lock, pidfile
from hermesd.supervisor.instance.paths import Paths, paths_of

TICKS = os.sysconf("SC_CLK_TCK")
SPIN = f"import os\nwhile os.getppid() == {os.getpid()}: pass"  # its parent may be killed by a test, at any moment
REST = "import sys; sys.stdin.read()"


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Handlers:
    """Answers from /proc and from what it was told."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.began = time.time()
        self.workers: dict[str, asyncio.subprocess.Process] = {}
        self.over = asyncio.Event()
        self.state = "running"
        self.server: ControlServer | None = None
        self.told: list[str] = []  # what only ends with a client

    async def start_worker(self, session: str, program: str) -> None:
        self.workers[session] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE
        )

    async def end_worker(self, session: str) -> None:
        process = self.workers.pop(session)
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]

    async def version(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"schema": 1, "version": VERSION, "pid": os.getpid()}

    async def status(self, params: dict[str, Any]) -> dict[str, Any]:
        assert self.server is not None
        warnings = []
        if self.state == "degraded":
            warnings.append({"id": "test", "severity": "warning", "message": "made so", "fix": "make it not so"})
        return {
            "schema": 1, "state": self.state, "pid": os.getpid(), "version": VERSION, "instance": self.paths.instance,
            "home": str(self.paths.home), "started_at": stamp(self.began), "uptime_s": time.time() - self.began,
            "loop": {"lag_ms_p99": 0.1}, "platforms": [],
            "workers": {"by_state": {"busy": 1, "idle": len(self.workers) - 1}, "total": len(self.workers), "max": 8,
                        "running_turns": 1, "max_turns": 4, "waiting_turns": 0},
            "queues": {"inbox": 0, "outbox": 0, "oldest_s": None, "dead": 0},
            "cpu": {"percent": None, "seconds": cpu_seconds(os.getpid())}, "memory_bytes": memory_bytes(os.getpid()),
            "containment": {"name": "subreaper", "refused": []}, "journal": {"state": "ok", "reason": ""},
            "drain": {"everything": False, "sessions": []},
            "warnings": warnings, "log_tail": [], "counters": self.server.counters.as_dict(), "told": self.told,
            "tasks": sorted(task.get_name() for task in asyncio.all_tasks()),
        }  # fmt: skip

    async def ps(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": 1,
            "workers": [
                self._row(f"w{number}", session, process, params["tree"])
                for number, (session, process) in enumerate(self.workers.items())
            ],
            "supervisor": {
                "pid": os.getpid(), "state": "running", "started_at": stamp(self.began), "cpu_percent": None,
                "cpu_seconds": cpu_seconds(os.getpid()), "memory_bytes": memory_bytes(os.getpid()),
            },
            "keeper": None,
            "figures": {
                "source": "proc", "exact": False, "taken_at": stamp(time.time()), "monotonic_s": time.monotonic(),
            },
            "host": host.figures(self.paths.home),
        }  # fmt: skip

    def _row(self, worker: str, session: str, process: asyncio.subprocess.Process, tree: bool) -> dict[str, Any]:
        pid = process.pid
        row = {
            "worker": worker, "session": session, "pid": pid, "state": "busy" if "spin" in session else "idle",
            "started_at": stamp(self.began), "idle_s": None if "spin" in session else 1.0, "turn": None, "queue": 0,
            "restarts": 0, "cpu_percent": None, "cpu_seconds": cpu_seconds(pid), "memory_bytes": memory_bytes(pid),
            "processes": 1, "mcp": [], "platform": "local", "user": "local",
        }  # fmt: skip
        if tree:
            row["tree"] = [
                {"pid": pid, "ppid": os.getpid(), "command": sys.executable, "state": "R",
                 "cpu_seconds": cpu_seconds(pid), "memory_bytes": memory_bytes(pid), "mcp": ""}
            ]  # fmt: skip
        return row

    async def doctor(self, params: dict[str, Any]) -> dict[str, Any]:
        finding = {"id": "live", "severity": "ok", "message": f"process {os.getpid()} answers", "fix": ""}
        return {"schema": 1, "findings": [finding], "leftovers": []}

    async def doctor_fix(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        yield {"left_s": 1.0}
        yield Done({"schema": 1, "mended": [], "left": []})

    async def logs_path(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"path": str(self.paths.logs / "hermesd.log")}

    async def sessions_list(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"schema": 1, "sessions": [self._session(session) for session in self.workers]}

    async def sessions_show(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["session"] not in self.workers:
            raise Refused(Code.NOT_FOUND, f"there is no session {params['session']}", "hermesctl sessions list")
        return {"schema": 1, "session": self._session(params["session"]), "transcript_entries": 0, "restarts": 0,
                "last_turns": []}  # fmt: skip

    def _session(self, session: str) -> dict[str, Any]:
        return {"session": session, "id": "1", "platform": "local", "user": "", "state": "idle", "worker": "w1",
                "created_at": stamp(self.began), "last_turn_at": None, "turns": 0, "queue": 0}  # fmt: skip

    async def sessions_reset(self, params: dict[str, Any]) -> dict[str, Any]:
        if "explode" in params["sessions"]:
            raise RuntimeError("as you wish")
        return {"schema": 1, "sessions": [self._outcome(session) for session in params["sessions"]]}

    def _outcome(self, session: str) -> dict[str, Any]:
        return {"session": session, "outcome": "done" if session in self.workers else "not_found", "detail": ""}

    async def stop(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        outcomes = [self._outcome(session) for session in params["sessions"]]
        seconds = 1.5 if params["timeout_s"] is None else params["timeout_s"]
        if params["sessions"]:
            yield self._progress("stopping", 0.0)
            for outcome in outcomes:
                if outcome["outcome"] == "done":
                    await self.end_worker(outcome["session"])
            yield Done({"schema": 1, "sessions": outcomes, "killed": 1})
            return
        self.state = "draining"
        end = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self.over.set)
        while not self.over.is_set():
            yield self._progress("draining", end - time.monotonic())
            await asyncio.wait([asyncio.ensure_future(self.over.wait())], timeout=0.1)
        yield Done({"schema": 1, "pid": os.getpid(), "killed": 2, "took_s": seconds})

    def _progress(self, phase: str, left: float) -> dict[str, Any]:
        return {"phase": phase, "workers": len(self.workers), "busy": 1, "left_s": left}

    async def restart(self, params: dict[str, Any]) -> AsyncIterator[Any]:
        yield self._progress("stopping", 1.0)
        for session in params["sessions"]:
            if session in self.workers:
                await self.end_worker(session)
                await self.start_worker(session, REST)
        yield Done({"schema": 1, "sessions": [self._outcome(session) for session in params["sessions"]]})

    async def chat(
        self, params: dict[str, Any], inputs: AsyncIterator[dict[str, Any]]
    ) -> AsyncIterator[dict[str, Any]]:
        """Echoes. "later": answered after the next line. "fail", "flood" (without end), "hang", "close", "notice"."""
        yield {"kind": "open", "text": "", "session": f"agent:main:local:dm:{params['name']}".rstrip(":")}
        waiting: list[tuple[str, str]] = []
        answered = failed = 0
        try:
            async for line in inputs:
                text, turn = line["text"], line["id"]
                if text == "later":
                    waiting.append((text, turn))
                    continue
                if text == "close":
                    break
                if text == "fail":
                    failed += 1
                    yield {"kind": "failed", "text": "as you wish", "turn": turn, "final": True}
                    continue
                if text == "notice":
                    yield {"kind": "notice", "text": "by the way"}
                if text == "hang":
                    await asyncio.Event().wait()
                while text == "flood":
                    yield {"kind": "delta", "text": "x" * 10_000, "turn": "t1"}
                for each, asked in ((text, turn), *waiting):
                    answered += 1
                    yield {"kind": "delta", "text": each[:2], "turn": asked}
                    yield {"kind": "answer", "text": each, "turn": asked, "final": True}
                waiting.clear()
            yield Done({"answered": answered, "failed": failed})  # type: ignore[misc]
        finally:
            self.told.append("a chat has ended")


async def _not_here(self: Handlers, params: dict[str, Any]) -> dict[str, Any]:
    raise Refused(Code.UNKNOWN_VERB, "this host does not serve it")


async def _no_stream_here(self: Handlers, params: dict[str, Any]) -> AsyncIterator[Any]:
    raise Refused(Code.UNKNOWN_VERB, "this host does not serve it")
    yield


for _verb in VERBS.values():
    if not hasattr(Handlers, _verb.handler):
        setattr(Handlers, _verb.handler, _no_stream_here if _verb.streams else _not_here)


async def serve(home: Path, contain: bool, quiet: bool) -> None:
    paths = paths_of(home, os.environ)
    paths.prepare()
    held = lock.acquire(paths)
    pidfile.write(paths.pid_file, pidfile.own_record(paths.control_socket))
    write_log(paths.logs / "hermesd.log")
    handlers = Handlers(paths)
    await handlers.start_worker("agent:main:local:dm:rest", REST)
    await handlers.start_worker("agent:main:local:dm:spin", SPIN)
    limits = Limits(slow=0.5, idle=0.5, connections=4) if quiet else Limits()
    server = handlers.server = ControlServer(paths.control_socket, handlers, lambda pid: contain, limits)
    await server.open()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, handlers.over.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: setattr(handlers, "state", "degraded"))
    loop.add_reader(0, handlers.over.set)
    print("ready", flush=True)
    await handlers.over.wait()
    await server.close()
    for session in list(handlers.workers):
        await handlers.end_worker(session)
    pidfile.remove(paths.pid_file)
    paths.clear_sockets(remove=True)
    held.release()


def write_log(path: Path) -> None:
    lines = [
        {"ts": stamp(time.time()), "level": level, "logger": "hermesd.test", "msg": text, **more}
        for level, text, more in (
            ("INFO", "up", {}),
            ("WARNING", "careful", {"session": "agent:main:local:dm:spin", "worker": "w1", "turn": "t1"}),
            ("ERROR", "broken", {}),
        )
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(serve(Path(sys.argv[1]), "--contain" in sys.argv, "--quiet" in sys.argv))
