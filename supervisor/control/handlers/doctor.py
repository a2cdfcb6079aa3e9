"""``doctor``: what a person should know about a running hermesd."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from hermesd.adapters.contract import HasRoutes, capability
from hermesd.supervisor import host
from hermesd.supervisor.config.errors import Problem
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.findings import BETTER_CONTAINMENT, of_host, of_leftovers, of_limits, of_survivors
from hermesd.supervisor.logs import rfc3339
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.pool.hang import Verdict
from hermesd.supervisor.surroundings import interpreter_problem, missing_commands

from . import leftovers
from .handler import Handler, Params

if TYPE_CHECKING:
    from hermesd.supervisor.app import App
    from hermesd.supervisor.pool.launchers.contract import Launcher

NEWS_SECONDS = 15 * 60.0
"""How long a hang that is over makes hermesd look degraded."""


class DoctorHandler(Handler):
    async def doctor(self, params: Params) -> dict[str, Any]:
        app = self._app
        figures = await asyncio.to_thread(host.figures, app.paths.home)
        found = [*findings(app, everything=True), *of_survivors(app.pool.launcher.containment)]
        found += of_limits(app.pool.launcher.memory_limit, app.pool.launcher.tasks_limit)
        found += of_host(figures, app.paths.home)
        if (unfit := await asyncio.to_thread(interpreter_problem, app.loaded)) is not None:
            found.append({**of_problem(unfit), "severity": "error"})
        left = await leftovers.found(app)
        return {"schema": SCHEMA, "findings": [*found, of_leftovers(left)], "leftovers": left}


def findings(app: App, *, everything: bool = False) -> list[dict[str, Any]]:
    """What a person should know; ``everything`` also names what is well."""
    launcher = app.pool.launcher
    found = [
        _finding(f"platform.{name}", "warning", f"{name} is {state.word}: {state.detail}", state.fix)
        for name, state in app.platforms.states().items()
        if state.word not in ("online", "stopped", "connecting")
    ]
    found += [
        _finding(f"platform.{name}", "warning", fault, app.platforms.connections[name].shown().fix)
        for name, adapter in app.platforms.live.items()
        for fault in adapter.describe().get("faults", ())
    ]
    found += undeliverable(app)
    if app.journal.state.word != "ok":
        found.append(_finding("journal", "error", f"the journal fails: {app.journal.state.reason}", "free the disk"))
    found += [_finding("keeper", "warning", warning, "") for warning in launcher.warnings]
    found += [of_problem(problem) for problem in app.loaded.warnings if everything or not problem.quiet]
    # Looked for anew each time: what was missing at the start may have been installed since.
    found += [of_problem(problem, "mcp") for problem in missing_commands(app.loaded)]
    found += silences(app) + hangs(app)
    quarantined = [lane for lane in app.lanes.lanes.values() if lane.life is worker_life.State.QUARANTINED]
    found += [
        _finding(
            "quarantine", "warning", f"{lane.key} is quarantined, last end: {lane.last_end}",
            f"hermesctl restart {lane.key}",
        )
        for lane in quarantined
    ]  # fmt: skip
    if everything:
        found += [
            _finding(f"platform.{name}", "warning", warning, "")
            for name, adapter in app.platforms.live.items()
            for warning in adapter.describe().get("warnings", ())
        ]
        # A weaker containment is a fact of this machine, not a fault of the running hermesd.
        fix = BETTER_CONTAINMENT if launcher.refused else ""
        text = f"containment is {launcher.containment}"
        wanted = app.loaded.settings.hermesd.containment
        if wanted not in ("auto", "cgroup"):
            text += ", which hermesd.containment names, so nothing stronger was tried"
            fix = f"containment: auto in config.yaml, and {BETTER_CONTAINMENT}"
        found.append(_finding("containment", "warning" if launcher.refused else "ok",
                              "; ".join((text, *launcher.refused)), fix))  # fmt: skip
        found += [keeper_of_before(app, keeper) for keeper in app.pool.launchers[1:]]
    found += [finding for finding in [wire(app)] if everything or finding["severity"] != "ok"]
    return found


def keeper_of_before(app: App, keeper: Launcher) -> dict[str, Any]:
    """One that an earlier hermesd has left."""
    held = sum(worker.launcher is keeper for worker in app.pool.workers.values())
    text = f"keeper {keeper.pid} of an earlier hermesd holds {held} workers still; it leaves with the last one"
    return _finding("keeper", "ok", text, "")


def wire(app: App) -> dict[str, Any]:
    """What was dropped at the pool's door; a warning while it is news that somebody spoke for others."""
    counts = app.pool.counts()
    text = (
        f"{counts.foreign_frames} frames of nobody, {counts.refused_hellos} refused hellos, "
        f"{counts.refused_keys} refused keys, {counts.false_claims} frames for other sessions, "
        f"{counts.peer_errors} unreadable frames"
    )
    if time.time() - counts.intruded_at >= NEWS_SECONDS:
        return _finding("wire", "ok", text, "")
    return _finding("wire", "warning", f"somebody spoke in a worker's place: {text}", "hermesctl logs --level ERROR")


def undeliverable(app: App) -> list[dict[str, Any]]:
    """A warning for each route whose answers have nowhere to go: its events are not taken."""
    return [
        _finding(
            f"platform.{name}", "warning", f"route {route.name} of {route.source} takes no events: {reason}",
            "configure that platform, name a chat_id in deliver_extra, or deliver: log",
        )
        for name, adapter in app.platforms.live.items()
        if (routes := capability(adapter, HasRoutes)) is not None
        for route in routes.routes()
        if not route.problem and (reason := app.reception.undeliverable(route.deliver.target))
    ]  # fmt: skip


def silences(app: App) -> list[dict[str, Any]]:
    """A warning for each worker whose heartbeats are missing, with what it does meanwhile."""
    found = []
    for worker in app.pool.workers.values():
        silence = worker.silence
        if silence is None or silence.verdict is not Verdict.SILENT or worker.ending or worker.ended_for:
            continue
        text = (
            f"worker {worker.id} of {worker.session or 'no session'} has given no sign of life for "
            f"{time.monotonic() - worker.last_heard:.0f} s, and used {silence.used:.1f} s CPU meanwhile"
        )
        fix = f"hermesctl stop {worker.session}" if worker.session else ""
        found.append(_finding("silent", "warning", text, fix))
    return found


def hangs(app: App) -> list[dict[str, Any]]:
    """A warning for each worker that was ended because it hung, for as long as it is news."""
    return [
        {
            **_finding(
                "hang", "warning",
                f"worker {one.worker} of {one.session or 'no session'} was ended at {rfc3339(one.at)}, {one.reason}"
                + (f", see {one.evidence}" if one.evidence else ""), "",
            ),
            **({"path": one.evidence} if one.evidence else {}),
        }
        for one in app.watch.hangs
        if time.time() - one.at < NEWS_SECONDS
    ]  # fmt: skip


def of_problem(problem: Problem, name: str = "configuration") -> dict[str, Any]:
    """A warning of the configuration as a finding."""
    return _finding(name, "ok" if problem.quiet else "warning", problem.sentence, problem.fix)


def _finding(name: str, severity: str, message: str, fix: str) -> dict[str, Any]:
    return {"id": name, "severity": severity, "message": message, "fix": fix}
