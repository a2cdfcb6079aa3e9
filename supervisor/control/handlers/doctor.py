"""``doctor``: what a person should know about a running hermesd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.pool import worker_life

from .handler import Handler, Params

if TYPE_CHECKING:
    from hermesd.supervisor.app import App

BETTER_CONTAINMENT = (
    "run hermesd where it may make cgroups: systemd-run --user --scope -p Delegate=yes hermesd, or as a service "
    "with Delegate=yes"
)


class DoctorHandler(Handler):
    async def doctor(self, params: Params) -> dict[str, Any]:
        return {"schema": SCHEMA, "findings": findings(self._app, everything=True)}


def findings(app: App, *, everything: bool = False) -> list[dict[str, Any]]:
    """What a person should know; ``everything`` also names what is well."""
    launcher = app.pool.launcher
    found = [
        _finding(f"platform.{name}", "warning", f"{name} is {state.word}: {state.detail}", state.fix)
        for name, state in app.platforms.states().items()
        if state.word not in ("online", "stopped", "connecting")
    ]
    if app.journal.state.word != "ok":
        found.append(_finding("journal", "error", f"the journal fails: {app.journal.state.reason}", "free the disk"))
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


def _finding(name: str, severity: str, message: str, fix: str) -> dict[str, Any]:
    return {"id": name, "severity": severity, "message": message, "fix": fix}
