"""What every worker of this hermesd is told: the configuration turned into a `WorkerSpec`, and its clean environment.

An allow-list, not a scrub: names that look harmless hold secrets (DATABASE_URL), and names that look secret are needed.
Platform tokens are in the supervisor's environment and stay there.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hermesd.ipc.mcp import ServerSpec, config_hash
from hermesd.supervisor import hermes_home
from hermesd.supervisor.config.settings import McpServer, Settings, Workers
from hermesd.supervisor.instance.paths import Paths
from hermesd.supervisor.pool import hang
from hermesd.supervisor.pool.limits import Limits
from hermesd.workers.spec import WorkerSpec

log = logging.getLogger("hermesd.app")

BASE = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TERM", "SHELL", "TMPDIR", "XDG_*", "PYTHONPATH",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV")  # fmt: skip
"""What a worker's environment is made of besides ``hermesd.workers.env``."""


def environment_of(settings: Settings, environ: Mapping[str, str], paths: Paths) -> dict[str, str]:
    """The environment of keeper and workers as this configuration has it."""
    ours = settings.hermesd
    return environment(environ, ours.workers.env, paths.hermes_view if ours.agent == hermes_home.AGENT else paths.home)


def environment(environ: Mapping[str, str], more: Iterable[str], home: Path) -> dict[str, str]:
    """``more``: names or globs that the configuration lets through; ``home``: what a worker takes for its home."""
    wanted = (*BASE, *more)
    passed = {name: value for name, value in environ.items() if any(fnmatch.fnmatchcase(name, glob) for glob in wanted)}
    return {**passed, "HERMES_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def servers(configured: Mapping[str, McpServer]) -> tuple[ServerSpec, ...]:
    """The stdio servers that are enabled. A server by url is named in the log: it belongs to agents that bring HTTP."""
    specs = []
    for name, server in configured.items():
        if not server.enabled:
            continue
        if server.url or not server.command:
            log.warning("mcp_servers.%s is reached by url; only stdio servers are started", name)
            continue
        spec = ServerSpec(
            name=name,
            command=server.command,
            args=tuple(server.args),
            env={key: str(value) for key, value in server.env.items()},
            cwd=server.cwd,
            timeout=server.timeout_seconds,
            connect_timeout=server.connect_timeout_seconds,
            include=tuple(server.tools.include),
            exclude=tuple(server.tools.exclude),
            idle_timeout=server.idle_timeout_seconds or 0.0,
            max_lifetime=server.max_lifetime_seconds or 0.0,
        )
        specs.append(replace(spec, config=config_hash(spec)))
    return tuple(specs)


def limits(workers: Workers) -> Limits:
    """What each worker may use up."""
    return Limits(
        memory_soft=workers.memory_soft_bytes or 0,
        memory_hard=workers.memory_hard_bytes or 0,
        processes=workers.max_processes or 0,
        age=workers.max_age_seconds,
        turns=workers.max_turns_per_worker or 0,
    )


def template(settings: Settings, paths: Paths, environ: Mapping[str, str], stop_grace: float) -> WorkerSpec:
    """Everything but a worker's own names, which the pool fills in."""
    ours = settings.hermesd
    held_to = limits(ours.workers)
    return WorkerSpec(
        worker="",
        instance=paths.instance,
        tag="",
        endpoint="",
        token="",
        containment="",
        container="",
        agent=ours.agent,
        agent_path=tuple(ours.agent_path),
        servers=servers(settings.mcp_servers),
        environment=environment_of(settings, environ, paths),
        log_dir=str(paths.logs),
        log_level=ours.log_level,
        adopt_timeout=ours.adopt_timeout_seconds,
        heartbeat=hang.beat_of(ours.workers.hang_timeout_seconds),
        idle_heartbeat=hang.idle_beat_of(ours.workers.hang_timeout_seconds),
        stop_grace=stop_grace,
        memory_bytes=held_to.memory_hard,
        tasks=held_to.tasks,
    )
