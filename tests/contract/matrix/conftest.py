"""An account for the adapter, and people who write to it; everybody is new in every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.matrix.bot import Bot
from harness.matrix.person import Person
from harness.matrix.synapse import Synapse


@pytest.fixture
async def bot(synapse: Synapse, tmp_path: Path) -> AsyncIterator[Bot]:
    account = synapse.person("bot")
    made = Bot(synapse, tmp_path, account)
    yield made
    await made.stop()
    account.close()


@pytest.fixture
def anna(synapse: Synapse) -> Iterator[Person]:
    person = synapse.person("anna")
    person.look()
    yield person
    person.close()


@pytest.fixture
def ben(synapse: Synapse) -> Iterator[Person]:
    person = synapse.person("ben")
    person.look()
    yield person
    person.close()
