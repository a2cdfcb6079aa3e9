"""A platform that wants no calls for a while: nothing is called in that chat meanwhile, and nothing is lost by it."""

from __future__ import annotations

import asyncio

import pytest
from harness.answer_scene import CURSOR, LONG, AnswerScene
from harness.gateway import until

from hermesd.adapters.contract import Target
from hermesd.adapters.errors import Retry
from hermesd.ipc.messages import Ask, Send
from hermesd.supervisor.delivery import streams
from hermesd.supervisor.delivery.settings import Streaming
from hermesd.supervisor.gateway import words


class TestClosedChats:
    """The platform has said "not before so many seconds", to whatever call it was."""

    HERE = Target("fake", "c1", reply_to="m1")
    SECONDS = 0.4

    def said(self, scene: AnswerScene) -> bool:
        """Whether it has; also when its time is over by now, after a stand-still of the machine."""
        return scene.gateway.deliverer._rates_of("fake").closed_until("c1") > 0

    async def window(self, scene: AnswerScene) -> None:
        """Wait for its end; nobody calls meanwhile."""
        closed_for = scene.gateway.deliverer.closed_for
        await until(lambda: self.said(scene))
        before = len(scene.chat.calls)
        while closed_for(self.HERE) > 0.001:
            assert scene.chat.calls[before:] == []
            await asyncio.sleep(0.001)

    @pytest.mark.parametrize("call", ["send", "edit"])
    async def test_the_answer_comes_in_it_and_what_was_said_before_the_tool_is_whole(
        self, scene: AnswerScene, call: str
    ) -> None:
        await scene.begin(can=["edit", "delete", "type"], streaming=Streaming(interval=0.01, threshold=1))
        if call == "edit":
            scene.delta(LONG)
            await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(1, error="flood", after=self.SECONDS, call=call)
        scene.delta("Let me look for it.")
        await until(lambda: self.said(scene))
        scene.delta(" In the garden.")
        scene.tool()
        scene.delta(LONG)
        scene.finish("It snows.")
        scene.gateway.lanes.presence.type_in(self.HERE)
        await self.window(scene)
        before = LONG if call == "edit" else ""
        await scene.reads(f"{before}Let me look for it. In the garden.", "It snows.")
        await scene.settled()

    async def test_nothing_is_taken_back_and_no_answer_comes(self, scene: AnswerScene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.finish("Short.")
        await self.window(scene)
        await scene.reads("Short.")
        await scene.settled()

    async def test_what_is_put_off_while_it_is_taken_back_closes_it_too(self, scene: AnswerScene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.chat.cut(1, error="flood", after=self.SECONDS, call="delete")
        scene.finish("Short.")
        await until(lambda: any(call.word == "delete" for call in scene.chat.calls))
        await until(lambda: scene.texts[0] == "Short." or self.said(scene))
        await self.window(scene)
        await scene.reads("Short.")
        await scene.settled()

    async def test_buttons_stay_until_it_is_over_and_go_then(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), 60.0))
        await scene.reads("May I?")
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.chat.cut(3, error="retry", after=0.0, call="settle")
        assert (await scene.chat.press("c1", "out-1", "approve", user="u1"))["taken"]
        await self.window(scene)
        await scene.reads("May I?\n\napprove, by u1")

    async def test_what_a_turn_without_an_answer_has_shown_loses_its_cursor(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.gateway.deliverer.abandon(scene.start.turn, self.HERE)
        await self.window(scene)
        await scene.reads(LONG.strip())
        await scene.settled()

    async def test_and_does_in_the_next_life(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("Let me look for it.")
        await scene.reads("Let me look for it." + CURSOR)
        scene.chat.cut(9, error="flood", after=60.0, call="edit")
        scene.tool()
        await until(lambda: self.said(scene))
        await scene.gateway.again()
        scene.chat.cut(0, call="edit")
        await scene.reads("Let me look for it.", words.lost_with_hermesd())

    async def test_what_stands_between_waits_for_what_was_said_before_it(
        self, scene: AnswerScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "STILL_SECONDS", 0.3)  # less than it is closed
        await scene.begin()
        scene.chat.cut(1, error="flood", after=self.SECONDS)
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await self.window(scene)
        await scene.reads("I send you what I have.", "This is it.")
