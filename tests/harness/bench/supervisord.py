"""PyPI's Supervisor: what people run in hermesd's place."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.scene import TESTS

from . import place

WHEELS = TESTS.parent / "build" / "wheels"
"""Where the set-up keeps it, for it cannot be installed everywhere: its package is called supervisor."""

PATIENCE = 60.0


class Running(NamedTuple):
    pid: int
    status: list[str]  # the command that asks it
    environment: dict[str, str]


@contextlib.contextmanager
def running(programs: int = 0) -> Iterator[Running | None]:
    """With so many programs that only sleep, all of them started. None where the set-up has not fetched it."""
    wheel = next(WHEELS.glob("supervisor-*.whl"), None)
    if wheel is None:
        yield None
        return
    with place.temporary() as directory:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(directory / "site")
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(directory / "site")}
        config = directory / "supervisord.conf"
        config.write_text(_config(directory, programs), "utf-8")
        # -P: the current directory may well be a checkout of ours, with a folder called supervisor.
        python = [sys.executable, "-P", "-m"]
        daemon = subprocess.Popen(
            [*python, "supervisor.supervisord", "-c", str(config)],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(directory / "control.sock", programs, daemon)
            command = [*python, "supervisor.supervisorctl", "-c", str(config), "status"]
            # What was unpacked just now is compiled at its first import; what is installed was compiled then.
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
            yield Running(daemon.pid, command, environment)
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)


def _config(directory: Path, programs: int) -> str:
    text = (
        f"[supervisord]\nnodaemon=true\nuser={os.getuid()}\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={directory}/pid\n"
        f"[unix_http_server]\nfile={directory}/control.sock\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{directory}/control.sock\n"
    )
    if programs:
        text += (
            f"[program:idle]\ncommand=sleep infinity\nnumprocs={programs}\n"
            "process_name=%(program_name)s_%(process_num)d\n"
            "redirect_stderr=true\nstdout_logfile=NONE\n"
        )
    return text


def _wait_for(socket: Path, programs: int, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (socket.exists() and len(psutil.Process(daemon.pid).children()) == programs):
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"supervisord did not come up: exit {daemon.poll()}")
        time.sleep(0.01)
