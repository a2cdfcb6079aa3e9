"""``hermesctl status`` as a program, from its start to its end, beside a running hermesd."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.scene import TESTS, Scene

from . import place
from .effort import Effort, Say
from .row import Row, Series

WHEELS = TESTS.parent / "build" / "wheels"
"""Where the set-up keeps PyPI's Supervisor, which cannot be installed everywhere: its package is called supervisor."""

PATIENCE = 30.0


def measure(effort: Effort, say: Say) -> list[Row]:
    ours: list[float] = []
    click: list[float] = []
    theirs: list[float] = []
    with Scene() as scene, _supervisord() as supervisorctl:
        scene.start()
        for number in range(effort.runs):
            ours.append(_time(scene.daemon.command("hermesctl", "status"), scene.daemon.env, effort.starts))
            click.append(_time([sys.executable, "-c", "import click"], scene.daemon.env, effort.starts))
            if supervisorctl is not None:
                command, environment = supervisorctl
                theirs.append(_time(command, environment, effort.starts))
            say(f"run {number + 1} of {effort.runs}: {ours[-1]:.0f} ms")
    baselines = [Series("python -c 'import click'", click)]
    if theirs:
        baselines.append(Series("supervisorctl status", theirs))
    return [Row("status", "hermesctl status, start to end", "ms", Series("hermesctl status", ours), baselines)]


def _time(command: Sequence[str], environment: Mapping[str, str], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        took.append((time.perf_counter() - began) * 1000)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return statistics.median(took)


@contextlib.contextmanager
def _supervisord() -> Iterator[tuple[list[str], dict[str, str]] | None]:
    """PyPI's Supervisor, running; yields the command that asks it. None where the set-up has not fetched it."""
    wheel = next(WHEELS.glob("supervisor-*.whl"), None)
    if wheel is None:
        yield None
        return
    with place.temporary() as directory:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(directory / "site")
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(directory / "site")}
        config = directory / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nnodaemon=true\nuser={os.getuid()}\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
            f"pidfile={directory}/pid\n"
            f"[unix_http_server]\nfile={directory}/control.sock\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{directory}/control.sock\n",
            "utf-8",
        )
        # -P: the current directory may well be a checkout of ours, with a folder called supervisor.
        python = [sys.executable, "-P", "-m"]
        daemon = subprocess.Popen(
            [*python, "supervisor.supervisord", "-c", str(config)],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(directory / "control.sock", daemon)
            command = [*python, "supervisor.supervisorctl", "-c", str(config), "status"]
            # What was unpacked just now is compiled at its first import; what is installed was compiled then.
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
            yield command, environment
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)


def _wait_for(socket: Path, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not socket.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"supervisord did not come up: exit {daemon.poll()}")
        time.sleep(0.01)
