"""What workers log, written into hermesd's own log with who said it."""

from __future__ import annotations

import logging
import time
from typing import Any

from hermesd.ipc.messages import Logs

from . import logs
from .pool.worker import Worker


def write(worker: Worker, batch: Logs) -> None:
    """Called by the lanes for each batch of records of a worker."""
    where: dict[str, Any] = {"session": worker.session or "", "worker": worker.id}
    if batch.dropped:
        logs.write_worker_record(
            time.time(), logging.WARNING, "worker", f"{batch.dropped} log records did not fit", **where
        )
    for record in batch.records:
        # A name that it was not given would put its lines among another session's.
        turn = record.turn if record.turn in worker.given else ""
        logs.write_worker_record(
            record.at, record.level, record.logger, record.text, turn=turn, pid=record.pid, **where
        )
