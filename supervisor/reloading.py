"""A new reading of the configuration for a hermesd that runs: at SIGHUP and for ``hermesctl reload``.

It is read and checked whole before anything of it applies; a bad one changes nothing. Which key applies when is the
table of `hermesd.supervisor.config.diff`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hermesd.ipc.mcp import ServerSpec

from . import hermes_home, in_effect, worker_template
from .config.diff import Changes, diff, hold
from .config.errors import ConfigError, Origin, Problem
from .config.loader import Loaded
from .errors import StartFailed
from .mcp.plan import Plan, plan
from .secrets import secrets_in
from .surroundings import missing_commands

if TYPE_CHECKING:
    from .app import App

log = logging.getLogger("hermesd.reload")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload found. ``warnings``: of the new reading."""

    changes: Changes
    servers: Plan
    warnings: tuple[Problem, ...]


class Reloader:
    """Owned by the app. ``read`` loads the files that the start has loaded; raises `ConfigError`."""

    def __init__(self, app: App, read: Callable[[], Loaded]):
        self._app = app
        self._read = read
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, *, dry_run: bool = False) -> Reloaded:
        """Apply what can be applied; ``dry_run``: only say what would. Raises `ConfigError`: then nothing changed."""
        async with self._one_at_a_time:
            fresh = await asyncio.to_thread(self._read)
            warnings = (*fresh.warnings, *await asyncio.to_thread(missing_commands, fresh))
            running = self._app.loaded
            changes = diff(running.settings, fresh.settings)
            held = replace(fresh, settings=hold(running.settings, fresh.settings))
            before, after = self._environment(running), self._environment(held)
            variables = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            changes = replace(
                changes, new_workers=(*changes.new_workers, *(f"environment.{name}" for name in variables))
            )
            servers = plan(self._servers(running), self._servers(held))
            if not dry_run:
                await self._show_to_agent(held)
                self._apply(held, changes)
            return Reloaded(changes, servers, warnings)

    @staticmethod
    def _servers(loaded: Loaded) -> tuple[ServerSpec, ...]:
        return worker_template.servers(loaded.settings.mcp_servers)

    async def _show_to_agent(self, loaded: Loaded) -> None:
        """What its workers read by themselves is in its place before anything applies: writing it may fail."""
        if loaded.settings.hermesd.agent != hermes_home.AGENT:
            return
        paths = self._app.paths
        try:
            await asyncio.to_thread(hermes_home.write, loaded, paths.home, paths.hermes_view)
        except StartFailed as error:
            raise ConfigError([Problem("", str(error), "", Origin(str(paths.hermes_view)))]) from error

    def _environment(self, loaded: Loaded) -> dict[str, str]:
        """Of a worker: a variable that is let through may have changed in ``.env``, and is no key."""
        return worker_template.environment_of(loaded.settings, loaded.environ, self._app.paths)

    async def on_signal(self) -> None:
        """SIGHUP: the same with nobody to answer to but the log."""
        try:
            reloaded = await self.reload()
        except ConfigError as error:
            log.error("the configuration was not reloaded, the old one stays:\n%s", error)
            return
        for warning in reloaded.warnings:
            log.log(logging.INFO if warning.quiet else logging.WARNING, "%s", warning.sentence)

    def _apply(self, loaded: Loaded, changes: Changes) -> None:
        # Values only from here to the end: nothing waits and nothing can fail half way.
        app = self._app
        app.loaded = loaded
        app.tail.redactor.know(loaded.environ, secrets_in(loaded.settings))
        if "hermesd.log_level" in changes.live:
            logging.getLogger().setLevel(loaded.settings.hermesd.log_level)
        app.lanes.reconfigure(in_effect.lane_settings(loaded, app.paths, app.budget))
        app.deliverer.reconfigure(in_effect.delivery_settings(loaded, app.paths))
        app.reception.reconfigure(in_effect.reception_rules(loaded))
        workers = loaded.settings.hermesd.workers
        app.watch.reconfigure(workers.hang_timeout_seconds, workers.burn_timeout_seconds)
        spec = in_effect.worker_spec(loaded, app.paths, app.budget)
        app.mcp.configure(spec.servers)
        app.pool.reconfigure(spec, workers.spare)
        app.holders.configure(spec.servers)
        log.info(
            "the configuration was reloaded; at once: %s; for new workers: %s; when a worker is idle: %s; "
            "with the next start: %s",
            *(
                ", ".join(keys) or "nothing"
                for keys in (changes.live, changes.new_workers, changes.next_idle, changes.restart)
            ),
        )
