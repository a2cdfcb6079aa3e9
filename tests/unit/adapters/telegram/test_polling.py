"""When is asked again, and how far is acknowledged; what the network does is in tests/contract/telegram."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import pytest
from telegram import error as tg

from hermesd.adapters.errors import AdapterError, Conflict, NotAccepted, StartLater, Unauthorized
from hermesd.adapters.telegram import polling
from hermesd.adapters.telegram.polling import Poller, chat_of


def update(number: int, chat: int = 1) -> dict[str, Any]:
    return {"update_id": number, "message": {"chat": {"id": chat}}}


class Script:
    """Telegram, the clock and the core, each saying what the test has written down."""

    token = "1:a"

    def __init__(self, answers: Iterable[list[dict[str, Any]] | tg.TelegramError], refuse: Iterable[int] = ()):
        self.answers = list(answers)
        self.refuse = set(refuse)
        self.offsets: list[int] = []
        self.taken: list[int] = []
        self.slept: list[float] = []
        self.lost: list[AdapterError] = []
        self.time = 0.0

    async def raw_updates(self, offset: int, seconds: int) -> list[dict[str, Any]]:
        self.offsets.append(offset)
        self.time += 1.0
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, tg.TelegramError):
            raise answer
        return answer

    async def take(self, update: Any) -> None:
        if update["update_id"] in self.refuse:
            self.refuse.discard(update["update_id"])
            raise NotAccepted("full")
        self.taken.append(update["update_id"])

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    async def run(self, monkeypatch: pytest.MonkeyPatch) -> Script:
        monkeypatch.setattr(polling.asyncio, "sleep", self.sleep)
        poller = Poller(
            self, self.take, alive=lambda: None, troubled=lambda why: None, lost=self.lost.append,  # type: ignore[arg-type]
            now=lambda: self.time,
        )  # fmt: skip
        with contextlib.suppress(asyncio.CancelledError):
            await poller.run()
        return self


async def test_the_next_question_acknowledges_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([[update(7), update(8)], [], [update(9)]]).run(monkeypatch)
    assert script.offsets == [0, 9, 9, 10]
    assert script.taken == [7, 8, 9]


async def test_nothing_behind_a_refused_update_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [update(7, 1), update(8, 2), update(9, 1), update(10, 3)]
    script = await Script([batch, batch[1:]], refuse=[8]).run(monkeypatch)
    assert script.offsets == [0, 8, 11]
    assert script.taken.count(8) == 1
    assert script.slept == [polling.REFUSED_DELAYS[0]]


async def test_the_core_takes_over_after_a_minute_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([tg.NetworkError("x")] * 100).run(monkeypatch)
    assert script.slept[:5] == list(polling.RETRY_DELAYS)
    assert isinstance(script.lost[0], StartLater)
    assert polling.GIVE_UP_SECONDS <= script.time < polling.GIVE_UP_SECONDS + 2 * polling.RETRY_DELAYS[-1]


async def test_a_success_between_failures_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [tg.NetworkError("x"), tg.NetworkError("x"), [update(1)]] * 40
    script = await Script(answers).run(monkeypatch)
    assert script.lost == []
    assert set(script.slept) == set(polling.RETRY_DELAYS[:2])


async def test_a_hand_over_is_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([tg.Conflict("x"), tg.Conflict("x"), *[[update(n)] for n in range(100)]]).run(monkeypatch)
    assert script.slept == list(polling.CONFLICT_DELAYS[:2])
    assert script.lost == []


async def test_conflicts_in_a_row_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([*[[update(n)] for n in range(100)], *[tg.Conflict("x")] * 10]).run(monkeypatch)
    assert script.slept == list(polling.CONFLICT_DELAYS)
    assert isinstance(script.lost[0], Conflict)
    assert script.time < 100 + 60


@pytest.mark.parametrize("pause", [3, 8, 25, 50])
async def test_a_rival_that_backs_off_while_people_write_is_a_conflict(
    monkeypatch: pytest.MonkeyPatch, pause: int
) -> None:
    script = Script([])
    conflicts: list[float] = []

    async def raw_updates(offset: int, seconds: int) -> list[dict[str, Any]]:
        """Somebody writes every second; the rival asks again ``pause`` seconds after its last time."""
        script.time += 1.0
        if script.time > 300:
            raise asyncio.CancelledError
        if script.time >= (conflicts[-1] + pause if conflicts else 20):
            conflicts.append(script.time)
            raise tg.Conflict("x")
        return [update(int(script.time))]

    monkeypatch.setattr(script, "raw_updates", raw_updates)
    await script.run(monkeypatch)
    assert isinstance(script.lost[0], Conflict)
    assert script.time < conflicts[0] + 60


async def test_a_token_that_is_refused_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([tg.InvalidToken()]).run(monkeypatch)
    assert isinstance(script.lost[0], Unauthorized)
    assert script.slept == []


async def test_flood_control_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    script = await Script([tg.RetryAfter(33), [update(1)]]).run(monkeypatch)
    assert script.slept == [33.0]


@pytest.mark.parametrize("answer", [[], [update(7)]])
async def test_a_server_that_tells_nothing_new_at_once_is_not_asked_without_pause(
    monkeypatch: pytest.MonkeyPatch, answer: list[dict[str, Any]]
) -> None:
    script = Script([[update(7)], answer, answer, answer])

    async def at_once(offset: int, seconds: int) -> list[dict[str, Any]]:
        script.time -= 1.0
        return await Script.raw_updates(script, offset, seconds)

    monkeypatch.setattr(script, "raw_updates", at_once)
    await script.run(monkeypatch)
    assert script.slept == [polling.HOLLOW_SECONDS] * 3


@pytest.mark.parametrize(
    ("shape", "chat"),
    [
        (update(1, 5), 5),
        ({"update_id": 1, "callback_query": {"message": {"chat": {"id": 6}}}}, 6),
        ({"update_id": 1, "message": {"chat": 3}}, None),
        ({"update_id": 1}, None),
    ],
)
def test_what_keeps_its_order(shape: dict[str, Any], chat: object) -> None:
    assert chat_of(shape) == chat
