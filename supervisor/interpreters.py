"""Whether an interpreter can run workers: ``hermesd.python``, or hermesd's own for hermes-agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hermesd.workers import elsewhere

SECONDS = 30.0
"""For an interpreter that starts from a cold disk."""

FITNESS = Path(elsewhere.HERE).with_name("fitness.py")

PASSED = ("HOME", "LANG", "PATH", "PYTHONPATH", "VIRTUAL_ENV")
"""Of the environment: what a worker has of it, too, and its interpreter may need to find its packages."""

PIP_LINE = "hermes-agent==0.19.0 pyzmq msgpack multiprocessing-logging 'mcp>=1.26'"
"""What hermes-agent's environment is made of: the version that is tested, and what our side needs."""


def why_unfit(python: str, agent: str) -> tuple[str, str] | None:
    """Why the workers of ``agent`` cannot run on ``python`` ("": hermesd's own), and what to do; None if they can.

    Starts it, which takes some 50 ms: not for the event loop's thread.
    """
    interpreter = python or sys.executable
    if not os.path.isfile(interpreter):
        return f'there is no file "{interpreter}"', f"make the environment: {_recipe(interpreter)}"
    if not os.access(interpreter, os.X_OK):
        return f'"{interpreter}" cannot be run', f"name an interpreter, or chmod +x {interpreter}"
    try:
        report = _ask(interpreter, agent)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        return f'"{interpreter}" is no Python that answers: {_said(error)}', "name the python of an environment"
    if report["old"]:
        return f'"{interpreter}" is Python {report["version"]}', "use Python 3.11 or newer"
    if not (lacking := report["lacking"]):
        return None
    what = ", ".join(lacking)
    if not python:
        # hermes-agent pins its libraries, and they are not hermesd's.
        new = "DIR/bin/python"
        return f"{agent} needs {what}, which hermesd's own Python lacks", f"{_recipe(new)}; then hermesd.python: {new}"
    wanted = " ".join(
        f"'{one}'" if one.partition(">=")[0] != "hermes-agent" else "hermes-agent==0.19.0" for one in lacking
    )
    return f'"{interpreter}" lacks {what}', f"{interpreter} -m pip install {wanted}"


def _recipe(python: str) -> str:
    place = os.path.dirname(os.path.dirname(python))
    return f"python3 -m venv {place} && {place}/bin/pip install {PIP_LINE}"


def _ask(interpreter: str, agent: str) -> dict[str, Any]:
    done = subprocess.run(
        # Not as a file: its folder would come first on the path, with names that others may have, too.
        [interpreter, "-c", FITNESS.read_text("utf-8"), agent],
        env={name: os.environ[name] for name in PASSED if name in os.environ}, cwd="/",
        stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)
    return {name: report[name] for name in ("version", "old", "lacking")}


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        last = error.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return last[0] if last else f"it ended with status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"nothing within {SECONDS:g} s"
    return str(error)
