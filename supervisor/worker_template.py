"""What every worker of this hermesd is told: the configuration turned into a `WorkerSpec`, and its clean environment.

An allow-list, not a scrub: names that look harmless hold secrets (DATABASE_URL), and names that look secret are needed.
Platform tokens are in the supervisor's environment and stay there.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hermesd.ipc.mcp import Sampling, ServerSpec, Tls, config_hash
from hermesd.supervisor import hermes_home
from hermesd.supervisor.config.settings import McpServer, Settings, Workers
from hermesd.supervisor.instance.paths import Paths
from hermesd.supervisor.pool import hang
from hermesd.supervisor.pool.limits import Limits
from hermesd.workers.spec import WorkerSpec

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
    """Those that are enabled."""
    return tuple(_server(name, server) for name, server in configured.items() if server.enabled)


def _server(name: str, server: McpServer) -> ServerSpec:
    sampling = server.sampling
    spec = ServerSpec(
        name=name,
        command="" if server.url else server.command,
        args=tuple(server.args),
        env={key: str(value) for key, value in server.env.items()},
        cwd=server.cwd,
        timeout=server.timeout_seconds,
        connect_timeout=server.connect_timeout_seconds,
        tools_wait=server.tools_wait_seconds,
        include=tuple(server.tools.include),
        exclude=tuple(server.tools.exclude),
        idle_timeout=server.idle_timeout_seconds or 0.0,
        max_lifetime=server.max_lifetime_seconds or 0.0,
        url=server.url.strip(),
        transport="sse" if server.transport == "sse" else "http",
        headers=dict(server.headers),
        tls=tls_of(server),
        oauth=server.auth == "oauth",
        keepalive=server.keepalive_interval_seconds,
        resources=server.tools.resources,
        prompts=server.tools.prompts,
        shared=server.is_shared,
        fresh=server.isolation == "call",
        sampling=Sampling(
            model=sampling.model,
            allowed_models=tuple(sampling.allowed_models),
            max_tokens=sampling.max_tokens_cap,
            timeout=sampling.timeout_seconds,
            per_minute=sampling.max_rpm,
            tool_rounds=sampling.max_tool_rounds,
            log_level=sampling.log_level.upper(),
        )
        if sampling.enabled
        else None,
    )
    return replace(spec, config=config_hash(spec))


def tls_of(server: McpServer) -> Tls | None:
    """Certificates of a server by url, where the usual ones will not do."""
    verify = server.ssl_verify
    if not server.url or (verify is True and not server.client_cert):
        return None
    certificate, key, password = (*server.client_cert, "", "", "")[:3]
    return Tls(
        verify=verify is not False,
        authorities=os.path.expanduser(verify) if isinstance(verify, str) else "",
        certificate=os.path.expanduser(certificate),
        key=os.path.expanduser(server.client_key or key),
        password=password,
    )


def preload(specs: Sequence[ServerSpec]) -> tuple[str, ...]:
    """Modules that a keeper imports once for all its workers."""
    needed = {"hermesd.workers.mcp.server": bool(specs), "hermesd.workers.mcp.remote": any(spec.url for spec in specs)}
    return tuple(module for module, wanted in needed.items() if wanted)


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
        idle_heartbeat=hang.idle_beat_of(ours.workers.hang_timeout_seconds, ours.workers.burn_timeout_seconds),
        stop_grace=stop_grace,
        memory_bytes=held_to.memory_hard,
        tasks=held_to.tasks,
    )
