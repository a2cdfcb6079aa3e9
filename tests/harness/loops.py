"""Event loops that servers of ours have in threads of their own."""

from __future__ import annotations

import asyncio


async def end_tasks() -> None:
    """End all that still runs on this loop, before it is closed.

    A task that is left is destroyed when its memory is collected, in the middle of another test, and what it complains
    about then is that one's failure.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for _ in range(8):
        await asyncio.sleep(0)  # a transport that was closed ends in the loop's next rounds
