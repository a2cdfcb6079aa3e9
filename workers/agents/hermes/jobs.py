"""hermes-agent's scheduled jobs of this conversation: run here while its worker lives, their results sent by hermesd.

hermes-agent's own scheduler looks for what is due, under its lock, and runs it. It is shown the jobs of this
conversation only, and what it would send through clients of its own goes to `out.send`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hermesd.workers.agents.contract import Session

from . import library

log = logging.getLogger("hermesd.hermes")

EVERY = 60.0
"""Seconds between looks; hermes-agent's gateway looks as often."""

Post = Callable[[str, str], Any]
"""Target and text; in a thread of hermes-agent's, returns when hermesd has it."""


class Jobs:
    """``run`` is a task of the loop for the worker's life; ``in_thread`` runs a function and waits for it."""

    def __init__(self, session: Session, post: Post, in_thread: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._session = session
        self._post = post
        self._in_thread = in_thread
        self._file = Path(os.environ.get("HERMES_HOME", "")) / "cron" / "jobs.json"

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            if self._file.exists():
                await self.look()

    async def look(self) -> None:
        """Run what is due now."""
        try:
            await self._in_thread("hermes-agent's jobs", self._tick)
        except Exception:  # of hermes-agent's; the next look may do better
            log.exception("hermes-agent's scheduler failed")

    def _tick(self) -> None:
        tick = library.function("cron.scheduler", "tick")
        due = library.function("cron.jobs", "get_due_jobs")
        if tick is None or due is None:
            return
        import cron.scheduler

        cron.scheduler.get_due_jobs = lambda: [job for job in due() if self._is_ours(job)]
        cron.scheduler._deliver_result = self._deliver
        tick(**library.accepted(tick, {"verbose": False, "sync": True}))

    def _is_ours(self, job: Mapping[str, Any]) -> bool:
        return place(job) == (self._session.platform, self._session.chat)

    def _deliver(self, job: Mapping[str, Any], content: str, *_: Any, **__: Any) -> str | None:
        """What hermes-agent's own returns: None, or why not."""
        deliver = str(job.get("deliver") or "origin")
        if deliver == "local" or not content.strip():
            return None
        try:
            for one in deliver.split(","):
                name = one.strip()
                self._post("" if name in ("origin", self._session.platform) else name, content)
        except Exception as error:  # noqa: BLE001 - kept with the job, which hermes-agent shows
            return str(error)
        return None


def place(job: Mapping[str, Any]) -> tuple[str, str]:
    """Platform and chat that a job was made in; empty where it was not a chat."""
    origin = job.get("origin")
    found = origin if isinstance(origin, dict) else {}
    return str(found.get("platform") or ""), str(found.get("chat_id") or "")
