"""An account for the adapter, and people who write to it; everybody is new in every test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
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


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on for as long as the test runs."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
