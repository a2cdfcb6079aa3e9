"""Answers that were being shown when hermesd or a worker died, and what later lives make of them."""

from __future__ import annotations

import asyncio

import pytest
from harness.answer_scene import CURSOR, LONG, AnswerScene
from harness.gateway import until

from hermesd.adapters.contract import Target
from hermesd.supervisor.delivery.parts import PERHAPS_AGAIN
from hermesd.supervisor.gateway import words
from hermesd.supervisor.journal import progress
from hermesd.supervisor.journal.rows import ProgressRow


class TestLaterLives:
    async def test_a_turn_that_hermesd_took_along_is_ended_in_its_message(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        await scene.gateway.again()
        await scene.reads(words.lost_with_hermesd())
        await scene.settled()

    async def test_and_what_was_said_before_a_tool_stays(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        await scene.gateway.again()
        await scene.reads("Let me look.", words.lost_with_hermesd())

    async def test_a_worker_that_lives_on_goes_on_in_the_same_message(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        (scene.worker,) = await scene.gateway.taken_over()
        scene.worker.snapshot(turn=scene.start.turn, text=f"Let me look.{LONG}Take", breaks=(12,))
        await scene.reads("Let me look.", LONG + "Take" + CURSOR)
        scene.delta(" a coat, and more than one of them.")
        await scene.reads("Let me look.", LONG + "Take a coat, and more than one of them." + CURSOR)
        scene.finish(LONG + "Take a coat.")
        await scene.reads("Let me look.", LONG + "Take a coat.")
        await scene.settled()

    async def test_an_answer_that_ends_while_its_beginning_is_looked_for_is_not_taken_back(
        self, scene: AnswerScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scene.begin(exact_resends=True)
        scene.chat.cut(100, delivered=True)
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        (scene.worker,) = await scene.gateway.taken_over()
        scene.chat.cut(0)
        looks, may_look = scene.hold_up(monkeypatch, "_sent_again")
        scene.worker.snapshot(turn=scene.start.turn, text=LONG)
        await until(lambda: looks)
        scene.finish("It snows.")
        await until(lambda: scene.gateway.deliverer.streams._streams[scene.start.turn].ended)
        await scene.states()  # comes after what is read for a second search
        await asyncio.sleep(0)
        may_look.set()
        await scene.reads("It snows.")
        await scene.settled()
        assert len(looks) == 1
        await scene.gateway.again()
        await scene.reads("It snows.")

    async def test_a_message_of_an_answer_is_never_taken_back(self, scene: AnswerScene) -> None:
        """As when a call ends long after its answer went another way to the same message."""
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.finish("It snows.")
        (shown,) = await scene.reads("It snows.")
        await scene.settled()
        row = ProgressRow(scene.start.turn, 0, Target("fake", "c1"), shown.message_id, 0, 0, "")
        await scene.gateway.journal.write(progress.keep, row)
        await scene.gateway.again()
        await scene.settled()
        assert scene.texts == ["It snows."]

    async def test_an_answer_that_could_not_be_sent_takes_its_message_in_the_next_life(
        self, scene: AnswerScene
    ) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(1, error="retry", after=0.2, call="edit")
        scene.finish("It snows.")
        await until(lambda: scene.gateway.life() == "idle")
        await until(lambda: any(call.kind == "answer" for call in scene.chat.calls))
        await scene.gateway.again()
        (shown,) = await scene.reads("It snows.")
        assert shown.message_id == "out-1"

    async def test_a_second_try_of_a_turn_writes_over_the_first(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.gateway.lanes.turns.reconfigure("retry", 0.0)
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.worker.gone()
        scene.worker = await scene.gateway.pool.ready(2)
        scene.start = await scene.worker.accept()
        scene.delta("Now it snows, for a change, in Paris.")
        await scene.reads("Now it snows, for a change, in Paris." + CURSOR)
        scene.finish("Now it snows.")
        await scene.reads("Now it snows.")
        await scene.settled()

    async def test_a_cut_send_needs_no_mark_where_the_platform_knows_it_again(self, scene: AnswerScene) -> None:
        await scene.begin(can=[], exact_resends=True)
        scene.chat.cut(1, delivered=True, after=0.0)
        scene.finish("It snows.")
        await scene.reads("It snows.")
        await scene.settled()

    async def test_and_needs_one_elsewhere(self, scene: AnswerScene) -> None:
        await scene.begin(can=[])
        scene.chat.cut(1, delivered=True, after=0.0)
        scene.finish("It snows.")
        await scene.reads("It snows.", f"{PERHAPS_AGAIN}\n\nIt snows.")
