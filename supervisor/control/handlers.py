"""What each verb of the control API answers: the app's state as the documents of `shapes`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from hermesd.adapters.contract import Outbound
from hermesd.adapters.errors import AdapterError
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.version import VERSION
from hermesd.supervisor.gateway.lane import Lane
from hermesd.supervisor.journal import figures, sessions, turns
from hermesd.supervisor.journal.errors import JournalError
from hermesd.supervisor.journal.rows import SessionRow, TurnRow
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool import census, worker_life
from hermesd.supervisor.pool.usage import NOTHING, Figures
from hermesd.supervisor.pool.worker import Worker

from .api import Done
from .errors import Code, Refused
from .shapes import SCHEMA

if TYPE_CHECKING:
    from hermesd.supervisor.app import App

log = logging.getLogger("hermesd.control")

Params = Mapping[str, Any]

BETTER_CONTAINMENT = (
    "run hermesd where it may make cgroups: systemd-run --user --scope -p Delegate=yes hermesd, or as a service "
    "with Delegate=yes"
)

TURN_TEXT = 200
"""Characters of a message that `sessions show` tells."""


class ControlHandlers:
    """One method per row of `hermesd.supervisor.control.api.VERBS`."""

    def __init__(self, app: App):
        self._app = app

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def version(self, params: Params) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, "pid": os.getpid()}

    async def logs_path(self, params: Params) -> dict[str, Any]:
        return {"path": str(self._app.paths.logs / "hermesd.log")}

    async def status(self, params: Params) -> dict[str, Any]:
        app = self._app
        sample = await app.sampler.figures(wait=False)
        counted = await app.journal.read(figures.count, time.time())
        findings = self._findings()
        degraded = any(finding["severity"] != "ok" for finding in findings)
        ages = [age for age in (counted.inbox_oldest_age, counted.outbox_oldest_age) if age]
        by_state: dict[str, int] = {}
        for lane in app.lanes.lanes.values():
            by_state[lane.life.value] = by_state.get(lane.life.value, 0) + 1
        launcher, settings = app.pool.launcher, app.lanes.settings
        return {
            "schema": SCHEMA,
            "state": "degraded" if app.state == "running" and degraded else app.state,
            "pid": os.getpid(),
            "version": VERSION,
            "instance": app.paths.instance,
            "home": str(app.paths.home),
            "started_at": rfc3339(app.started_at),
            "uptime_s": time.time() - app.started_at,
            "loop": {"lag_ms_p99": app.lag.p99() * 1000.0},
            "platforms": self._platforms(),
            "workers": {
                "by_state": by_state,
                "max": settings.max_workers,
                "running_turns": app.lanes.running,
                "max_turns": settings.max_turns,
                "waiting_turns": app.lanes.waiting,
            },
            "queues": {
                "inbox": sum(counted.inbox[state] for state in ("received", "queued", "dispatched", "accepted")),
                "outbox": sum(counted.outbox[state] for state in ("pending", "sending", "ambiguous")),
                "oldest_s": max(ages) if ages else None,
                "dead": counted.dead_letters,
            },
            "cpu": {"percent": _total_percent(sample), "seconds": _total_seconds(sample) + app.pool.cpu_of_the_gone},
            "memory_bytes": sample.supervisor_memory
            + sample.keeper_memory
            + sum(usage.memory_bytes for usage in sample.sample.workers.values()),
            "containment": {"name": launcher.containment, "refused": list(launcher.refused)},
            "journal": {"state": app.journal.state.word, "reason": app.journal.state.reason},
            "warnings": [finding for finding in findings if finding["severity"] != "ok"],
            "log_tail": list(app.tail.lines)[-5:],
        }

    async def ps(self, params: Params) -> dict[str, Any]:
        app = self._app
        sample = await app.sampler.figures()
        workers = list(app.pool.workers.values())
        looked_into = [worker for worker in workers if params["tree"] or worker.servers]
        trees = await asyncio.to_thread(census.trees, looked_into) if looked_into else {}
        lanes = {lane.worker.id: lane for lane in app.lanes.lanes.values() if lane.worker is not None}
        rows = [
            self._worker_row(worker, lanes.get(worker.id), sample, trees.get(worker.id, []), tree=params["tree"])
            for worker in workers
        ]
        rows += [
            _resting_row(lane)
            for lane in app.lanes.lanes.values()
            if lane.worker is None and lane.life is not worker_life.State.HIBERNATED
        ]
        return {
            "schema": SCHEMA,
            "workers": rows,
            "supervisor": {
                "pid": os.getpid(),
                "state": app.state,
                "started_at": rfc3339(app.started_at),
                "cpu_percent": sample.supervisor_percent,
                "cpu_seconds": sample.sample.supervisor,
                "memory_bytes": sample.supervisor_memory,
            },
            "keeper": {
                "pid": app.pool.launcher.pid,
                "state": app.pool.launcher.state,
                "started_at": rfc3339(app.pool.launcher.started_at),
                "cpu_percent": sample.keeper_percent,
                "cpu_seconds": sample.sample.keeper,
                "memory_bytes": sample.keeper_memory,
            },
            "figures": {
                "source": sample.source,
                "exact": sample.exact,
                "taken_at": rfc3339(sample.sample.taken_at),
                "monotonic_s": sample.sample.at,
            },
        }

    def _worker_row(
        self, worker: Worker, lane: Lane | None, sample: Figures, lines: list[census.ProcessLine], *, tree: bool
    ) -> dict[str, Any]:
        now = time.monotonic()
        usage = sample.sample.workers.get(worker.id, NOTHING)
        turn = lane.current if lane is not None else None
        state = lane.life.value if lane is not None else ("idle" if worker.connected else "starting")
        row: dict[str, Any] = {
            "worker": worker.id,
            "session": worker.session or "",
            "pid": worker.pid or None,
            "state": state,
            "started_at": rfc3339(worker.started_at),
            "idle_s": now - lane.idle_since if lane is not None and state == "idle" else None,
            "turn": turn.id if turn is not None else None,
            "queue": len(lane.queue) if lane is not None else 0,
            "restarts": lane.restarts if lane is not None else 0,
            "cpu_percent": sample.percent.get(worker.id),
            "cpu_seconds": usage.cpu_seconds,
            "memory_bytes": usage.memory_bytes,
            "processes": usage.processes,
            "mcp": [
                {
                    "name": server.name,
                    "pid": server.pid or None,
                    "state": server.state,
                    "cpu_seconds": sum(line.cpu_seconds for line in lines if line.server == server.name) or None,
                    "memory_bytes": sum(line.memory_bytes for line in lines if line.server == server.name) or None,
                }
                for server in worker.servers
            ],
        }
        if turn is not None and turn.started_at:
            row["turn_s"] = now - turn.started_at
        if tree:
            row["tree"] = [
                {
                    "pid": line.pid,
                    "ppid": line.parent,
                    "command": line.command,
                    "state": line.state,
                    "cpu_seconds": line.cpu_seconds,
                    "memory_bytes": line.memory_bytes,
                    "mcp": line.server,
                }
                for line in lines
            ]
        return row

    def _platforms(self) -> list[dict[str, Any]]:
        described = {name: adapter.describe() for name, adapter in self._app.platforms.live.items()}
        return [
            {
                "name": name,
                "state": state.word,
                "detail": state.detail,
                "since": rfc3339(state.since) if state.since else None,
                "received_at": rfc3339(state.received_at) if state.received_at else None,
                "describe": described.get(name, {}),
            }
            for name, state in self._app.platforms.states().items()
        ]

    async def doctor(self, params: Params) -> dict[str, Any]:
        return {"schema": SCHEMA, "findings": self._findings(everything=True)}

    def _findings(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """What a person should know; ``everything`` also names what is well."""
        app, launcher = self._app, self._app.pool.launcher
        found = [
            _finding(f"platform.{name}", "warning", f"{name} is {state.word}: {state.detail}", "")
            for name, state in app.platforms.states().items()
            if state.word not in ("online", "stopped", "connecting")
        ]
        if app.journal.state.word != "ok":
            found.append(
                _finding("journal", "error", f"the journal fails: {app.journal.state.reason}", "free the disk")
            )
        found += [_finding("keeper", "warning", warning, "") for warning in launcher.warnings]
        found += [
            _finding("configuration", "ok" if problem.quiet else "warning", problem.sentence, problem.fix)
            for problem in app.loaded.warnings
            if everything or not problem.quiet
        ]
        quarantined = [lane for lane in app.lanes.lanes.values() if lane.life is worker_life.State.QUARANTINED]
        found += [
            _finding(
                "quarantine", "warning", f"{lane.key} is quarantined, last end: {lane.last_end}",
                f"hermesctl restart {lane.key}",
            )
            for lane in quarantined
        ]  # fmt: skip
        if everything:
            # A weaker containment is a fact of this machine, not a fault of the running hermesd.
            fix = BETTER_CONTAINMENT if launcher.refused else ""
            text = f"containment is {launcher.containment}"
            wanted = app.loaded.settings.hermesd.containment
            if wanted not in ("auto", "cgroup"):
                text += ", which hermesd.containment names, so nothing stronger was tried"
                fix = f"containment: auto in config.yaml, and {BETTER_CONTAINMENT}"
            found.append(_finding("containment", "warning" if launcher.refused else "ok",
                                  "; ".join((text, *launcher.refused)), fix))  # fmt: skip
            counts = app.pool.counts()
            found.append(
                _finding(
                    "wire", "ok" if not counts.refused_hellos else "warning",
                    f"{counts.foreign_frames} frames of nobody, {counts.refused_hellos} refused hellos, "
                    f"{counts.peer_errors} unreadable frames", "",
                )
            )  # fmt: skip
        return found

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def sessions_list(self, params: Params) -> dict[str, Any]:
        rows = await self._app.journal.read(sessions.list_current)
        return {"schema": SCHEMA, "sessions": [await self._session_row(row) for row in rows]}

    async def sessions_show(self, params: Params) -> dict[str, Any]:
        key = params["session"]
        history = await self._app.journal.read(sessions.show, key)
        if history is None or history.current is None:
            raise Refused(Code.NOT_FOUND, f"there is no session {key}", "hermesctl sessions list")
        last = await self._app.journal.read(turns.recent, key, 5)
        lane = self._app.lanes.lane_of(SessionKey(key))
        return {
            "schema": SCHEMA,
            "session": await self._session_row(history.current),
            "transcript_entries": history.entries,
            "restarts": lane.restarts if lane is not None else 0,
            "last_turns": [_turn_row(turn) for turn in last],
        }

    async def _session_row(self, row: SessionRow) -> dict[str, Any]:
        last = await self._app.journal.read(turns.recent, row.key, 1)
        lane = self._app.lanes.lane_of(SessionKey(row.key))
        return {
            "session": row.key,
            "id": row.session_id,
            "platform": row.origin.platform,
            "user": row.origin.user_name or row.origin.user_id,
            "state": lane.life.value if lane is not None else worker_life.State.HIBERNATED.value,
            "worker": lane.worker.id if lane is not None and lane.worker is not None else None,
            "created_at": rfc3339(row.created_at),
            "last_turn_at": rfc3339(last[0].started_at) if last else None,
            "turns": await self._app.journal.read(turns.count_ended, row.session_id),
            "queue": len(lane.queue) if lane is not None else 0,
        }

    async def sessions_reset(self, params: Params) -> dict[str, Any]:
        outcomes = []
        for key in params["sessions"]:
            try:
                session_id = await self._app.lanes.reset_session(SessionKey(key), "reset by hermesctl")
                outcomes.append(_outcome(key, "done", f"the conversation is {session_id} now"))
            except JournalError as error:
                outcomes.append(_outcome(key, "not_found", str(error)))
        return {"schema": SCHEMA, "sessions": outcomes}

    async def stop(self, params: Params) -> AsyncIterator[Any]:
        if params["sessions"]:
            yield _progress("stopping", len(params["sessions"]), 0, 5.0)
            outcomes = await asyncio.gather(*(self._stop_session(key) for key in params["sessions"]))
            yield Done({"schema": SCHEMA, "sessions": outcomes})
            return
        app = self._app
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        app.on_stop_progress(
            lambda phase, busy, left: events.put_nowait(_progress(phase, len(app.pool.workers), busy, left))
        )
        yield _progress("draining", len(app.pool.workers), app.lanes.running, app.budget.watchdog)
        app.request_stop("hermesctl stop", params["timeout_s"])
        stopped = asyncio.ensure_future(app.stopped.wait())
        while not stopped.done():
            event = asyncio.ensure_future(events.get())
            await asyncio.wait([event, stopped], return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                yield event.result()
            else:
                event.cancel()
        assert app.stop_report is not None
        yield Done({
            "schema": SCHEMA, "pid": os.getpid(), "killed": app.stop_report.killed, "took_s": app.stop_report.took,
        })  # fmt: skip

    async def _stop_session(self, key: str) -> dict[str, Any]:
        if await self._app.lanes.stop_session(SessionKey(key), "stopped by hermesctl"):
            return _outcome(key, "done", "its worker has ended; the conversation is kept")
        if await self._app.journal.read(sessions.current, key) is not None:
            return _outcome(key, "done", "no worker was running")
        return _outcome(key, "not_found", "there is no such session")

    async def restart(self, params: Params) -> AsyncIterator[Any]:
        yield _progress("stopping", len(params["sessions"]), 0, 5.0)
        outcomes = []
        for key in params["sessions"]:
            done = await self._app.lanes.restart_session(SessionKey(key), "restarted by hermesctl")
            text = "a new worker is starting" if done else "there is no such session"
            outcomes.append(_outcome(key, "done" if done else "not_found", text))
        yield Done({"schema": SCHEMA, "sessions": outcomes})

    # ---- chat --------------------------------------------------------------------------------------------------------

    async def chat(self, params: Params, inputs: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[Any]:
        place = self._app.attachable()
        if place is None:
            raise Refused(Code.BUSY, "the local chat is not up")
        front = ChatFront()
        try:
            chat = place.attach(params["name"], front)
        except AdapterError as error:
            raise Refused(Code.USAGE, str(error)) from error
        key = ":".join(part for part in ("agent:main:local:dm", params["name"]) if part)
        yield {"kind": "open", "text": "", "session": key}
        reading = asyncio.ensure_future(_say_all(chat, inputs, front))
        try:
            while True:
                event = await front.events.get()
                if event is None:
                    break
                yield event
            yield Done({"answered": front.answered, "failed": front.failed})
        finally:
            reading.cancel()
            chat.detach()


class ChatFront:
    """One connection of ``hermesctl chat`` as the local adapter sees it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.waiting: set[str] = set()
        self.answered = 0
        self.failed = 0
        self._no_more = False

    async def answer(self, reply_to: str, message: Outbound) -> None:
        kind = {"error": "failed", "answer": "answer"}.get(message.kind, "notice")
        files = "".join(f"\n[file {file.name}: {file.path}]" for file in message.files)
        self.events.put_nowait({"kind": kind, "text": message.text + files, "turn": reply_to})
        if message.final and reply_to in self.waiting:
            self.waiting.discard(reply_to)
            if kind == "failed":
                self.failed += 1
            else:
                self.answered += 1
            self._end_if_done()

    def stream(self, reply_to: str, text: str) -> None:
        self.events.put_nowait({"kind": "delta", "text": text, "turn": reply_to})

    def notice(self, reply_to: str, text: str) -> None:
        self.events.put_nowait({"kind": "status", "text": text, "turn": reply_to})

    def closed(self) -> None:
        self.events.put_nowait(None)

    def no_more_input(self) -> None:
        self._no_more = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._no_more and not self.waiting:
            self.events.put_nowait(None)


async def _say_all(chat: Any, inputs: AsyncIterator[Mapping[str, Any]], front: ChatFront) -> None:
    count = 0
    async for line in inputs:
        count += 1
        message_id = f"{os.urandom(8).hex()}-{count}"
        front.waiting.add(message_id)
        try:
            await chat.say(line["text"], message_id)
        except AdapterError as error:
            front.waiting.discard(message_id)
            front.failed += 1
            front.events.put_nowait({"kind": "failed", "text": str(error), "turn": message_id})
    front.no_more_input()


def _resting_row(lane: Lane) -> dict[str, Any]:
    """A session that is in trouble, or about to have a worker, and has no process."""
    return {
        "worker": "",
        "session": lane.key,
        "pid": None,
        "state": lane.life.value,
        "started_at": None,
        "idle_s": None,
        "turn": lane.current.id if lane.current is not None else None,
        "queue": len(lane.queue),
        "restarts": lane.restarts,
        "cpu_percent": None,
        "cpu_seconds": 0.0,
        "memory_bytes": 0,
        "processes": 0,
        "mcp": [],
        "retry_in_s": max(0.0, lane.retry_at - time.monotonic()),
    }


def _turn_row(turn: TurnRow) -> dict[str, Any]:
    return {
        "turn": turn.turn,
        "state": turn.state.value,
        "started_at": rfc3339(turn.started_at),
        "duration_s": turn.ended_at - turn.started_at if turn.ended_at is not None else None,
        "text": turn.text[:TURN_TEXT],
        "error": turn.error,
    }


def _progress(phase: str, workers: int, busy: int, left: float) -> dict[str, Any]:
    return {"phase": phase, "workers": workers, "busy": busy, "left_s": left}


def _outcome(session: str, outcome: str, detail: str) -> dict[str, Any]:
    return {"session": session, "outcome": outcome, "detail": detail}


def _finding(name: str, severity: str, message: str, fix: str) -> dict[str, Any]:
    return {"id": name, "severity": severity, "message": message, "fix": fix}


def _total_percent(sample: Figures) -> float | None:
    if sample.supervisor_percent is None or sample.keeper_percent is None:
        return None
    return sample.supervisor_percent + sample.keeper_percent + sum(sample.percent.values())


def _total_seconds(sample: Figures) -> float:
    workers = sum(usage.cpu_seconds for usage in sample.sample.workers.values())
    return sample.sample.supervisor + sample.sample.keeper + workers
