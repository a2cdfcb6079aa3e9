"""hermes-agent's scheduled jobs of this conversation: run here while its worker lives, their results sent by hermesd.

hermes-agent's own scheduler looks for what is due, under its lock, and runs it. Its look claims one-shot jobs and moves
late ones on, so it is shown the jobs of this conversation only: those of others lie in the same file for their own
workers. What it would send through clients of its own goes to `out.send`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hermesd.workers.agents.contract import Session

from . import library

log = logging.getLogger("hermesd.hermes")

EVERY = 60.0
"""Seconds between looks; hermes-agent's gateway looks as often."""

SCHEDULER, ASKS = "HERMES_CRON_SESSION", "HERMES_EXEC_ASK"

IN_JOB = contextvars.ContextVar("IN_JOB", default=False)

Post = Callable[[str, str], Any]
"""Target and text; in a thread of hermes-agent's, returns when hermesd has it."""


class Jobs:
    """``run`` is a task of the loop for the worker's life; ``in_thread`` runs a function and waits for it."""

    def __init__(self, session: Session, post: Post, in_thread: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._session = session
        self._post = post
        self._in_thread = in_thread
        self._store: Store | None = None
        self._file = Path(os.environ.get("HERMES_HOME", "")) / "cron" / "jobs.json"

    async def run(self) -> None:
        while True:
            if self._file.exists():
                await self.look()
            await asyncio.sleep(EVERY)

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
        import cron.jobs
        import cron.scheduler

        if self._store is None:
            self._store = Store(cron.jobs, self._is_ours)
            _keep_apart(cron.scheduler)
        cron.scheduler.get_due_jobs = self._store.narrowed(due)
        cron.scheduler._deliver_result = self._deliver
        # Without waiting for the jobs: the lock of a look would keep those of other conversations waiting as well.
        tick(**library.accepted(tick, {"verbose": False, "sync": False}))

    def _is_ours(self, job: Any) -> bool:
        session = self._session
        return place(job) == (session.platform, session.chat, session.thread)

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


def _keep_apart(scheduler: Any) -> None:
    """hermes-agent marks a process that ran a job as its scheduler's, where nobody can be asked: here somebody can, but
    in a job.
    """
    run: Callable[..., Any] = scheduler.run_job
    enabled: Any = getattr(library.approval, "env_var_enabled", None)

    def run_job(*given: Any, **named: Any) -> Any:
        mark = IN_JOB.set(True)
        try:
            return run(*given, **named)
        finally:
            IN_JOB.reset(mark)
            os.environ.pop(SCHEDULER, None)

    def env_var_enabled(name: str, *otherwise: Any) -> bool:
        if name == SCHEDULER:
            return IN_JOB.get()
        return bool(enabled(name, *otherwise)) and not (name == ASKS and IN_JOB.get())

    scheduler.run_job = run_job
    if enabled is not None:
        library.approval.env_var_enabled = env_var_enabled


class Store:
    """hermes-agent's file of jobs (``module`` is its ``cron.jobs``), in which a look sees and changes ours only."""

    def __init__(self, module: Any, is_ours: Callable[[Any], bool]) -> None:
        self._is_ours = is_ours
        self._load, self._save = module.load_jobs, module.save_jobs
        self._looking = threading.local()  # jobs that run meanwhile, and the agent's tool, see the whole file
        module.load_jobs, module.save_jobs = self.load_jobs, self.save_jobs

    def narrowed(self, look: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        def narrowed_look() -> list[Any]:
            self._looking.now = True
            try:
                return [job for job in look() if self._is_ours(job)]
            finally:
                self._looking.now = False

        return narrowed_look

    def load_jobs(self) -> list[Any]:
        """Under hermes-agent's name."""
        if not getattr(self._looking, "now", False):
            return list(self._load())
        return [job for job in self._whole() if self._is_ours(job)]

    def save_jobs(self, jobs: list[Any]) -> None:
        """Under hermes-agent's name."""
        if getattr(self._looking, "now", False):
            jobs = [*(job for job in self._whole() if not self._is_ours(job)), *jobs]
        self._save(jobs)

    def _whole(self) -> list[Any]:
        """Reading repairs a broken file, which saves all of it."""
        self._looking.now = False
        try:
            return list(self._load())
        finally:
            self._looking.now = True


def place(job: Any) -> tuple[str, str, str]:
    """Platform, chat and thread that a job was made in; empty where it was not a chat."""
    origin = job.get("origin") if isinstance(job, Mapping) else None
    found = origin if isinstance(origin, dict) else {}
    platform, chat, thread = (str(found.get(name) or "") for name in ("platform", "chat_id", "thread_id"))
    return platform, chat, thread
