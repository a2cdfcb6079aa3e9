from __future__ import annotations

import asyncio
import time

import pytest

from hermesd.supervisor import patience
from hermesd.supervisor.patience import insist_in


async def insisted(seconds: float, pause: float) -> tuple[float, float]:
    """Seconds until the call, of which hermesd stands still for ``pause`` at once; and those since the pause."""
    loop = asyncio.get_running_loop()
    called, began = asyncio.Event(), loop.time()
    insist_in(seconds, called.set)
    time.sleep(pause)  # noqa: ASYNC251 - all of hermesd stands still
    went_on = loop.time()
    async with asyncio.timeout(30.0):
        await called.wait()
    return loop.time() - began, loop.time() - went_on


async def test_it_insists_when_the_time_is_over() -> None:
    took, _ = await insisted(0.05, 0.0)
    assert took >= 0.05


async def test_a_pause_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "OWN_PAUSE", 0.05)
    _, since = await insisted(0.05, 0.3)
    assert since >= 0.25 - 0.001, "as long as it was too late"
