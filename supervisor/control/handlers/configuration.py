"""``reload``: the configuration is read again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hermesd.supervisor.config.errors import ConfigError
from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA

from .doctor import of_problem
from .handler import Handler, Params


class ConfigurationHandler(Handler):
    async def reload(self, params: Params) -> dict[str, Any]:
        if self._app.state != "running":
            raise Refused(Code.BUSY, f"hermesd is {self._app.state}")
        try:
            reloaded = await self._app.reloader.reload(dry_run=params["dry_run"])
        except ConfigError as error:
            # The client puts "error: " before it, as before everything that it says.
            raise Refused(Code.CONFIG, str(error).removeprefix("error: ")) from error
        changes = reloaded.changes
        return {
            "schema": SCHEMA,
            "applied": [*changes.live, *changes.new_workers, *changes.next_idle],
            "new_workers": list(changes.new_workers),
            "next_idle": list(changes.next_idle),
            "mcp": asdict(reloaded.servers),
            "needs_restart": list(changes.restart),
            "no_effect": list(changes.no_effect),
            "unchanged": not changes,
            "dry_run": params["dry_run"],
            "warnings": [of_problem(problem) for problem in reloaded.warnings if not problem.quiet],
        }
