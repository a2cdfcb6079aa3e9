"""Answers in two rooms by an account that a real Synapse allows few messages, in all rooms together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness.matrix.bot import Bot, direct, seen
from harness.matrix.person import Person
from mautrix.client import ClientAPI

from hermesd.adapters.contract import Outbound
from hermesd.adapters.errors import Retry
from hermesd.adapters.matrix.calls import Limited
from hermesd.supervisor.delivery.deliverer import Deliverer
from hermesd.supervisor.delivery.preparation import answer_key
from hermesd.supervisor.delivery.settings import DeliverySettings, Streaming
from hermesd.supervisor.journal import Journal
from hermesd.supervisor.tasks import Tasks


@dataclass(slots=True)
class Seen:
    """What the server was asked that it counts, by time.monotonic(), and when it wanted nothing."""

    calls: list[float] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)

    def inside(self) -> list[float]:
        return [call for call in self.calls if any(begin < call < end for begin, end in self.windows)]

    def watch(self, client: ClientAPI) -> None:
        real = client.api.request

        async def request(method: Any, path: Any, *how: Any, **more: Any) -> Any:
            if not any(word in str(path) for word in ("/send/", "/redact/")):
                return await real(method, path, *how, **more)
            self.calls.append(time.monotonic())
            try:
                return await real(method, path, *how, **more)
            except Limited as error:
                now = time.monotonic()
                self.windows.append((now, now + error.after))
                raise

        client.api.request = request


@pytest.fixture
def limited(bot: Bot) -> Iterator[Bot]:
    """``bot``, which may write four messages at once, and then one a second: a fifth of a fresh Synapse's patience."""
    server, account = bot.server, bot.server.person("limited", limited=True)
    place = f"/_synapse/admin/v1/users/{account.user_id}/override_ratelimit"
    server.admin.call("POST", place, {"messages_per_second": 1, "burst_count": 4})
    bot.account, bot.environ["MATRIX_ACCESS_TOKEN"] = account, account.token
    yield bot
    account.close()


@pytest.fixture
async def deliverer(tmp_path: Path) -> AsyncIterator[Deliverer]:
    tasks = Tasks(lambda name, error: None)
    journal = Journal(tmp_path / "state.db")
    await journal.open()
    # Much sooner than the server takes them, so that it refuses one however slow this machine is.
    yield Deliverer(journal, {}, tasks, DeliverySettings(Streaming(interval=0.1)))
    await tasks.close()
    await journal.close()


async def test_answers_in_two_rooms_come_whole_and_nothing_is_asked_while_the_server_wants_nothing(
    limited: Bot, deliverer: Deliverer, anna: Person, ben: Person
) -> None:
    bot, server = limited, Seen()
    await bot.start()
    hers, his = await direct(bot, anna), await direct(bot, ben)
    assert bot.adapter._client is not None
    server.watch(bot.adapter._client)
    deliverer.adapters["matrix"] = bot.adapter  # type: ignore[index]
    text = ""
    while not server.windows:
        assert len(text) < 20_000, "the server refuses nothing: this proves nothing"
        piece = f"more of what is {len(text)} characters long\n"
        text += piece
        deliverer.stream(bot.target(hers), piece, "hers")
        await asyncio.sleep(0.03)  # as a model writes
    await deliverer.say(bot.target(his), Outbound(answer_key("his"), "for you"), turn="his")
    await deliverer.say(bot.target(hers), Outbound(answer_key("hers"), text), turn="hers")
    assert await deliverer.wait_idle(40.0)
    for person, room, whole in ((anna, hers, text.strip()), (ben, his, "for you")):
        await seen(person, partial(reads, person, room, bot, whole))
    assert server.inside() == []


def reads(person: Person, room: str, bot: Bot, whole: str) -> bool:
    return [one["content"]["body"].strip() for one in person.messages(room, bot.user_id)] == [whole]


async def test_a_refusal_in_one_room_holds_for_the_others_and_for_signs(
    limited: Bot, anna: Person, ben: Person
) -> None:
    bot, server = limited, Seen()
    await bot.start()
    rooms = [await direct(bot, person) for person in (anna, ben)]
    asked = anna.say(rooms[0], "hello")
    await bot.core.message("hello")
    assert bot.adapter._client is not None
    server.watch(bot.adapter._client)

    async def many() -> None:
        for number in range(20):
            await bot.send(rooms[0], f"message {number}", str(number))

    with pytest.raises(Retry, match="M_LIMIT_EXCEEDED") as caught:
        await many()
    assert caught.value.overall
    calls = len(server.calls)
    with pytest.raises(Retry, match="the server takes no message for") as elsewhere:
        await bot.send(rooms[1], "here")
    assert elsewhere.value.overall
    assert elsewhere.value.after <= caught.value.after
    await bot.adapter.react(bot.target(rooms[0], reply_to=asked), "👀")
    assert len(server.calls) == calls
    assert bot.adapter.capabilities(bot.target(rooms[0])).progress_rate is not None
