"""``doctor.fix``: ends and removes what an earlier hermesd of this home has left beside the running one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from hermesd.supervisor.control.api import Done
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.pool import leftovers
from hermesd.supervisor.pool.leftovers import InUse

from .handler import Handler, Params

if TYPE_CHECKING:
    from hermesd.supervisor.app import App

log = logging.getLogger("hermesd.doctor")


class LeftoversHandler(Handler):
    async def doctor_fix(self, params: Params) -> AsyncIterator[Any]:
        app = self._app
        yield {"left_s": leftovers.SECONDS}
        mended = await asyncio.to_thread(leftovers.mend_beside, app.paths, asker(app))
        done, left = leftovers.rows(mended.done), leftovers.rows(mended.left, why=True)
        if done or left:
            log.warning("doctor --fix: ended or removed %s; left: %s", done, left)
        yield Done({"schema": SCHEMA, "mended": done, "left": left})


def asker(app: App) -> Callable[[], InUse]:
    """A function that any thread may call: it asks on the event loop, where no keeper is half started."""
    loop = asyncio.get_running_loop()

    async def in_use() -> InUse:
        pool = app.pool
        pids = [launcher.pid for launcher in pool.launchers] + [worker.pid for worker in pool.workers.values()]
        return leftovers.in_use_by(app.paths.keepers, pids, pool.workers)

    return lambda: asyncio.run_coroutine_threadsafe(in_use(), loop).result(leftovers.SECONDS)


async def found(app: App) -> list[Any]:
    """The rows of what is there, untouched. Scans /proc, in a thread."""
    return leftovers.rows(await asyncio.to_thread(leftovers.look_beside, app.paths, asker(app)))
