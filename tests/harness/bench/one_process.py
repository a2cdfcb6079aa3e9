"""What a process for each session is good for, and what it costs: the same conversations in one process of AIAgents.

hermesd's sessions have the agent ``llm``, those of the other process are hermes-agent's AIAgent, each in a thread while
it has a turn. Both talk to the same model and have no tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.aimock import AiMock, aimock
from harness.figures import quantile
from harness.hermes.environment import PYTHON
from harness.hermes.scene import MODEL, why_not
from harness.scene import PROGRAMS, Scene

from . import idle_sessions, neighbours, place
from .effort import Effort, Say
from .memory import rolled
from .row import Row, Series

FIXTURE = {"match": {}, "response": {"content": "Hello to you."}}
WAYS = ("rest", "spin")
FIRSTS = 5
"""New sessions in each run, which counts with their median."""

READY_SECONDS = 600.0
MIB = 1 << 20


class Figures:
    """Of one of the two: a value for each run."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.own: list[float] = []
        self.first: list[float] = []
        self.quiet: dict[str, list[Sequence[float]]] = {way: [] for way in WAYS}
        self.taken_along: list[float] = []

    def ratios(self) -> list[float]:
        runs = zip(self.quiet["spin"], self.quiet["rest"], strict=True)
        return [quantile(disturbed, 0.99) / quantile(quiet, 0.99) for disturbed, quiet in runs]

    def p99_ms(self, way: str) -> float:
        return statistics.median(quantile(run, 0.99) for run in self.quiet[way]) * 1000


def measure(effort: Effort, say: Say) -> list[Row]:
    if reason := why_not():
        raise RuntimeError(reason)
    ours, theirs = Figures(), Figures()
    for number in range(effort.runs):
        with aimock(FIXTURE) as endpoint:
            _ours(endpoint, effort, ours)
        with aimock(FIXTURE) as endpoint, place.temporary() as directory:
            _theirs(endpoint, directory, effort, theirs)
        say(
            f"run {number + 1} of {effort.runs}: {ours.memory[-1]:.0f} MiB and {theirs.memory[-1]:.0f}, first reply "
            f"{ours.first[-1]:.0f} ms and {theirs.first[-1]:.0f}, beside one that spins "
            f"{ours.ratios()[-1]:.1f} and {theirs.ratios()[-1]:.1f} times"
        )
    return _rows(effort, ours, theirs)


def _rows(effort: Effort, ours: Figures, theirs: Figures) -> list[Row]:
    count, quiet = effort.idle_sessions, effort.quiet_sessions
    us, them = "hermesd with llm, all its processes", "one process of AIAgents"

    def row(title: str, unit: str, name: str) -> Row:
        return Row("one-process", title, unit, Series(us, getattr(ours, name)), (Series(them, getattr(theirs, name)),))

    def waits(name: str, figures: Figures) -> Series:
        return Series(name, figures.ratios(), {"ms": figures.p99_ms("spin"), "ms undisturbed": figures.p99_ms("rest")})

    return [
        row(f"memory of {count} sessions", "MiB", "memory"),
        row(f"memory that one more session adds to {count}", "MiB", "own"),
        row(f"first reply of a new session beside {count}", "ms", "first"),
        Row(
            "one-process", f"p99 of {quiet} quiet sessions' turns while one spins, to while nobody does", "times",
            waits(us, ours), (waits(them, theirs),),
        ),
        row("sessions that lose their agent when one crashes", "sessions", "taken_along"),
    ]  # fmt: skip


# ---- hermesd ---------------------------------------------------------------------------------------------------------


def _ours(endpoint: AiMock, effort: Effort, figures: Figures) -> None:
    count = effort.idle_sessions
    model = {"default": MODEL["default"], "base_url": endpoint.url, "api_key": MODEL["api_key"]}
    with idle_sessions.scene(count, agent="llm", model=model, more=FIRSTS + 1) as scene:
        before = _memory_of_all(scene)
        figures.memory.append(before)
        figures.first.append(statistics.median(_first(scene, f"new{number}") for number in range(FIRSTS)) * 1000)
        figures.own.append((_memory_of_all(scene) - before) / FIRSTS)
        figures.taken_along.append(_taken_along(scene))
    settings = {"models": [{"name": model["default"], **{key: model[key] for key in ("base_url", "api_key")}}]}
    agent = {"agent": "troubled:make", "agent_path": [str(PROGRAMS)], "agent_settings": settings}
    quiet = effort.quiet_sessions
    with idle_sessions.scene(quiet + 1, max(idle_sessions.AT_ONCE, quiet + 1), **agent) as scene:
        for way in WAYS:
            waits = asyncio.run(neighbours.beside(scene.daemon.home, way, effort.disturbed_seconds, quiet, way))
            figures.quiet[way].append(waits)


def _first(scene: Scene, chat: str) -> float:
    began = time.monotonic()
    scene.fake.talk("hello", chat=chat)
    return time.monotonic() - began


def _taken_along(scene: Scene) -> int:
    """As with the other process, one ends by SIGABRT."""
    before = {row["session"]: row["pid"] for row in scene.daemon.workers()}
    os.kill(before[scene.session("chat0")], signal.SIGABRT)
    scene.fake.talk("hello", chat="chat0")
    after = {row["session"]: row["pid"] for row in scene.daemon.workers()}
    return sum(after.get(session) != pid for session, pid in before.items())


def _memory_of_all(scene: Scene) -> float:
    """MiB of hermesd and everything below it, common pages counted once."""
    daemon = psutil.Process(scene.daemon.pid)
    pids = [daemon.pid, *(child.pid for child in daemon.children(recursive=True))]
    return sum(rolled(pid).proportional for pid in pids)


# ---- one process -----------------------------------------------------------------------------------------------------


def _theirs(endpoint: AiMock, directory: Path, effort: Effort, figures: Figures) -> None:
    # JSON is YAML too.
    (directory / "config.yaml").write_text(json.dumps({"model": {**MODEL, "base_url": endpoint.url}}))
    with _together(directory, effort.idle_sessions) as (process, ask):
        before = rolled(process.pid).proportional
        figures.memory.append(before)
        figures.first.append(statistics.median(ask(do="first") for _ in range(FIRSTS)) * 1000)
        figures.own.append((rolled(process.pid).proportional - before) / FIRSTS)
        for way in WAYS:
            figures.quiet[way].append(
                ask(do="beside", way=way, seconds=effort.disturbed_seconds, sessions=effort.quiet_sessions,
                    pause=neighbours.PAUSE)
            )  # fmt: skip
        with contextlib.suppress(EOFError):
            ask(do="crash")
        figures.taken_along.append(effort.idle_sessions if process.wait(60.0) else 0)


@contextlib.contextmanager
def _together(directory: Path, count: int) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    environment = {"PATH": os.environ["PATH"], "HERMES_HOME": str(directory), "HOME": str(directory)}
    with (directory / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [str(PYTHON), str(PROGRAMS / "aiagents_together.py"), str(count), str(idle_sessions.AT_ONCE)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip

    def read() -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise EOFError((directory / "stderr").read_text("utf-8")[-2000:])
        return json.loads(line)

    def ask(**order: Any) -> Any:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return read()

    try:
        read()
        yield process, ask
    finally:
        process.kill()
        process.wait()
