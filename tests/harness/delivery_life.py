"""One life of hermesd as far as delivery goes: its journal and its deliverer, with a platform of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, Self, TypeVar

from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.journal import Journal
from hermesd.supervisor.tasks import Tasks

P = TypeVar("P")


class DeliveryLife(Generic[P]):
    """``end`` leaves the journal as a death would."""

    def __init__(self, place: Path, platform: P):
        self.platform = platform
        self.journal = Journal(place / "state.db")
        self.tasks = Tasks(lambda name, error: None)
        self.deliverer = Deliverer(self.journal, {"fake": platform}, self.tasks)  # type: ignore[dict-item]

    async def begin(self) -> Self:
        await self.journal.open()
        await self.deliverer.recover()
        await self.deliverer.take_up()
        return self

    async def end(self) -> None:
        await self.tasks.close()
        await self.journal.close()
