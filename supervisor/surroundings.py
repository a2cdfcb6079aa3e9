"""What the configuration names and this machine may lack: commands of MCP servers, platforms, the agent's module.

None of it keeps hermesd from starting. ``--check`` and ``config check`` look for all of it, a start and ``doctor`` only
for what costs nothing to find out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from hermesd.adapters import registry
from hermesd.supervisor.config.complaints import shown
from hermesd.supervisor.config.errors import Problem, nearest
from hermesd.supervisor.config.loader import Loaded
from hermesd.workers import elsewhere

from . import hermes_home, interpreters, worker_template

AGENT_SECONDS = 30.0
"""For the import of an agent; large libraries take ten."""


def missing_commands(loaded: Loaded) -> list[Problem]:
    """A problem for each enabled MCP server whose command cannot be found or run."""
    problems = []
    for name, server in loaded.settings.mcp_servers.items():
        if not server.enabled or server.url or not server.command:
            continue
        path = server.env.get("PATH") or loaded.environ.get("PATH") or os.defpath
        if (reason := _not_runnable(server.command, path, server.cwd)) is not None:
            key, origin = loaded.origin(("mcp_servers", name, "command"))
            what, fix = reason
            message = f"{shown(server.command)}, the command of the MCP server {name}, {what}"
            problems.append(Problem(key, message, fix, origin))
    return problems


def _not_runnable(command: str, path: str, directory: str) -> tuple[str, str] | None:
    """What is wrong with it and what would be right."""
    if "/" not in command:
        if shutil.which(command, path=path) is not None:
            return None
        return "is not found on the PATH", f"install it, or write its full path; PATH is {path}"
    if not os.path.isabs(command) and not directory:
        return None  # it starts in its session's directory, which is not there yet
    file = os.path.join(os.path.expanduser(directory), command)
    if not os.path.isfile(file):
        return "is not there", "install it, or write the path of a program that exists"
    if not os.access(file, os.X_OK):
        return "cannot be run", f"chmod +x {file}, or give an interpreter as the command and this file in args"
    return None


def unknown_platforms(loaded: Loaded) -> list[Problem]:
    """A problem for each enabled platform that no adapter is there for."""
    known = registry.names()
    problems = []
    for name, platform in loaded.settings.platforms.items():
        if platform.enabled and name not in known:
            key, origin = loaded.origin(("platforms", name))
            near = nearest(name, known)
            fix = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
            problems.append(Problem(key, "is no platform that this hermesd knows, and stays unavailable", fix, origin))
    return problems


def interpreter_problem(loaded: Loaded) -> Problem | None:
    """What is wrong with ``hermesd.python``, or lacks where hermes-agent is to run on hermesd's own interpreter.

    Asks that interpreter, which takes some 50 ms; not from the event loop's thread.
    """
    ours = loaded.settings.hermesd
    if not ours.python and ours.agent != hermes_home.AGENT:
        return None
    key, origin = loaded.origin(("hermesd", "python" if ours.python else "agent"))
    if (reason := interpreters.why_unfit(ours.python, ours.agent)) is None:
        return None
    return Problem(key, *reason, origin)


def agent_problem(loaded: Loaded, home: Path) -> Problem | None:
    """Why the agent cannot be made; None if it can. Imports it in a process of its own, which may take its time."""
    ours = loaded.settings.hermesd
    if ours.agent == hermes_home.AGENT:
        return None  # it is hermes-agent's presence that counts; importing it would make files in a home
    environment = worker_template.environment(loaded.environ, ours.workers.env, home)
    reason = _import_agent(ours.agent, ours.agent_path, environment, ours.python)
    if reason is None:
        return None
    key, origin = loaded.origin(("hermesd", "agent"))
    return Problem(key, reason, "use demo, or package.module:factory with its directory in hermesd.agent_path", origin)


def _import_agent(name: str, agent_path: tuple[str, ...], environment: Mapping[str, str], python: str) -> str | None:
    # -P: the directory that somebody happens to be in is on no worker's sys.path either.
    module = "hermesd.workers.agents"
    start = elsewhere.command(module, python) if python else [sys.executable, "-P", "-m", module]
    command = [*start, name, *agent_path]
    with subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=AGENT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"cannot load agent {name!r}: its import takes longer than {AGENT_SECONDS:g} s"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is its own
    text = said.decode("utf-8", "replace")
    if text == "+":
        return None
    return text or f"cannot load agent {name!r}: its import ended the process"


def examine(loaded: Loaded, home: Path) -> Iterator[tuple[str, Problem]]:
    """Everything, as severity ("error", "warning") and problem."""
    yield from (("warning", problem) for problem in unknown_platforms(loaded))
    yield from (("warning", problem) for problem in missing_commands(loaded))
    problem = interpreter_problem(loaded) or agent_problem(loaded, home)
    if problem is not None:
        yield "error", problem
