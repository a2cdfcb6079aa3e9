"""What hermesd throws away with time: files of messages, and what nobody will ask the journal for any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from hermesd.adapters.media.store import sweep

from .journal import Journal, retention
from .journal.errors import JournalUnavailable
from .pool.watch import Watch

log = logging.getLogger("hermesd.app")

DAY = 24 * 60 * 60.0

MEDIA_KEPT = DAY
"""Seconds that a file of a message stays, whatever became of the message; hermes-agent keeps as long."""

MEDIA_SWEEP = 60 * 60.0


async def sweep_media(media: Path) -> None:
    """Remove the files of messages after a day, every one of them. Runs as long as hermesd."""
    while True:
        removed = await asyncio.to_thread(sweep, media, time.time() - MEDIA_KEPT)
        if removed:
            log.info("removed %d files of messages that were older than a day", removed)
        await asyncio.sleep(MEDIA_SWEEP)


async def prune_daily(journal: Journal, watch: Watch) -> None:
    """Drop old rows, in steps that hold the journal up for no one, and old evidence. Runs as long as hermesd."""
    while True:
        watch.prune(time.time())
        with contextlib.suppress(JournalUnavailable):
            while await journal.write(retention.prune, time.time()):
                await asyncio.sleep(0)
        await asyncio.sleep(DAY)
