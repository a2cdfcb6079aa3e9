"""The gateway of one home, with its waits made short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.answer_scene import AnswerScene
from harness.gateway import Gateway

from hermesd.supervisor.gateway import turns as turns_module
from hermesd.supervisor.journal import persistence
from hermesd.supervisor.pool import backoff


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, short; the steps themselves are the real ones."""
    monkeypatch.setattr(persistence, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(turns_module, "INTERRUPT_ARRIVES", 0.03)
    monkeypatch.setattr(turns_module, "INTERRUPT_GRACE", 0.08)
    monkeypatch.setattr(backoff, "FIRST_DELAY", 0.002)


@pytest.fixture
async def gateway(tmp_path: Path, quick: None) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    await made.die()
    assert not made.failures


@pytest.fixture
def scene(gateway: Gateway) -> AnswerScene:
    return AnswerScene(gateway)
