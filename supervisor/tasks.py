"""Background tasks with a name and an owner. A task that dies takes its owner down with it, loudly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("hermesd.tasks")


class Tasks:
    """The background tasks of one owner.

    ``spawn`` is for tasks that must live as long as the owner: when one ends with an error, ``on_failure`` is called
    with its name and error, once. ``job`` is for work with an end of its own, whose failure is logged and is nobody
    else's problem.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None]):
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._jobs: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return self._start(coroutine, name, self._lasting_ended)

    def job(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self._start(coroutine, name, self._job_ended)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    def _start(
        self, coroutine: Coroutine[Any, Any, Any], name: str, ended: Callable[[asyncio.Task[Any]], None]
    ) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task

    def _lasting_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if self._closed or task.cancelled():
            return
        error = task.exception() or RuntimeError("it ended")
        log.critical("the task %r failed", task.get_name(), exc_info=error)
        self._on_failure(task.get_name(), error)

    def _job_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def settle(self, timeout: float) -> None:
        """Give the jobs that run, and those that they start, ``timeout`` seconds to end by themselves."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self._jobs and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(list(self._jobs), timeout=left)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
