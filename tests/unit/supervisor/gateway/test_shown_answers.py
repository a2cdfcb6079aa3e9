"""What a chat platform shows of a turn: its answer while it is written and when it is whole, files, questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.answer_scene import CURSOR, LONG, AnswerScene
from harness.gateway import until

from hermesd.adapters.fake import Call
from hermesd.adapters.fake_record import Shown
from hermesd.ipc.messages import Answer, Ask, File, Send
from hermesd.supervisor.delivery.settings import Streaming
from hermesd.supervisor.gateway import words


class TestProgress:
    async def test_an_answer_is_one_message_that_grows_and_ends_without_the_cursor(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.delta("Take")
        (shown,) = await scene.reads(LONG + "Take" + CURSOR)
        assert (shown.kind, shown.final, shown.quotes) == ("progress", False, True)
        scene.finish(LONG + "Take a coat.")
        (shown,) = await scene.reads(LONG + "Take a coat.")
        await scene.settled()
        assert (shown.kind, shown.message_id) == ("answer", "out-1")
        assert scene.chat.transcript()[0].final
        assert await scene.states() == [(f"{scene.start.turn}:answer", "sent", "out-1")]

    async def test_thoughts_and_directives_are_never_seen(self, scene: AnswerScene) -> None:
        await scene.begin()
        picture = scene.gateway.path / "work" / "s"
        scene.delta("<think>They ask for the weather in Paris.</think>\n" + LONG + "\nMEDIA:")
        scene.delta(f"{picture}/none.png")
        await scene.reads(LONG.strip() + CURSOR)
        scene.finish("<think>They ask for the weather in Paris.</think>\n" + LONG)
        await scene.reads(LONG.strip())
        assert not [call for call in scene.chat.calls if "think" in call.text or "MEDIA" in call.text]

    async def test_what_was_said_before_a_tool_stays_above(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        await scene.reads("Let me look.")
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        scene.finish(LONG)
        await scene.reads("Let me look.", LONG.strip())
        await scene.settled()

    async def test_what_was_said_before_a_tool_is_shown_though_the_answer_comes_at_once(
        self, scene: AnswerScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scene.begin()
        _, may_look = scene.hold_up(monkeypatch, "_of_turn")
        scene.delta("Let me look.")
        scene.tool()
        scene.finish("It snows.")
        await until(lambda: scene.gateway.deliverer.streams._streams[scene.start.turn].ended)
        may_look.set()
        await scene.reads("Let me look.", "It snows.")
        await scene.settled()

    async def test_an_answer_that_holds_what_was_said_before_the_tool(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        scene.finish("Let me look.\n\n" + LONG)
        await scene.reads("Let me look.", LONG.strip())
        await scene.settled()
        assert [(state, message) for _, state, message in await scene.states()] == [
            ("sent", "out-1"), ("sent", "out-2"),
        ]  # fmt: skip
        assert [shown.final for shown in scene.chat.transcript()] == [False, True]

    async def test_a_long_answer_goes_on_in_further_messages(self, scene: AnswerScene) -> None:
        await scene.begin(max_length=700)
        lines = [f"{number} " + "x" * 98 for number in range(10)]
        for line in lines:
            scene.delta(line + "\n")
            await asyncio.sleep(0)
        await until(lambda: len(scene.texts) == 2)
        scene.finish("\n".join(lines))
        await until(lambda: "(2/2)" in scene.texts[-1])
        await scene.settled()
        assert [shown.message_id for shown in scene.chat.transcript()] == ["out-1", "out-2"]
        assert [line for text in scene.texts for line in text.split("\n")] == [
            *lines[:5], lines[5] + " (1/2)", *lines[6:9], lines[9] + " (2/2)",
        ]  # fmt: skip

    async def test_a_message_that_is_not_needed_in_the_end_is_taken_back(self, scene: AnswerScene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.finish("Short.")
        await scene.reads("Short.")
        await scene.settled()

    async def test_where_nothing_can_be_taken_back_it_is_emptied(self, scene: AnswerScene) -> None:
        await scene.begin(max_length=700, can=["edit"])
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.finish("Short.")
        await scene.reads("Short.", "\u2026")
        await scene.settled()

    async def test_an_answer_is_sent_anew_when_its_message_can_no_longer_be_edited(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.lock("out-1")
        scene.finish("It snows.")
        (shown,) = await scene.reads("It snows.")
        assert shown.message_id == "out-2"
        await scene.settled()

    @pytest.mark.parametrize("error", ["retry", "uncertain"])
    async def test_a_last_edit_that_fails_for_now_is_repeated_without_a_mark(
        self, scene: AnswerScene, error: str
    ) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(3, error=error, after=0.01, call="edit")
        scene.finish("It snows.")
        (shown,) = await scene.reads("It snows.")
        assert shown.message_id == "out-1"
        await scene.settled()

    async def test_a_platform_that_tells_no_id_gets_the_answer_once(self, scene: AnswerScene) -> None:
        await scene.begin(withhold_ids=True)
        for _ in range(5):
            scene.delta(LONG)
            scene.tool()
            await asyncio.sleep(0.01)
        scene.finish("It snows.")
        await scene.reads(LONG.strip() + CURSOR, "It snows.")
        await scene.settled()

    async def test_an_answer_comes_whole_when_progress_fails_for_ever(self, scene: AnswerScene) -> None:
        await scene.begin(streaming=Streaming(interval=0.1))
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(3, error="retry", after=0.0, call="edit")
        scene.delta(LONG)
        await until(lambda: sum(call.word == "edit" for call in scene.chat.calls) == 3)
        scene.delta(LONG * 9)
        scene.finish("It snows.")
        await scene.reads("It snows.")
        assert [call.text for call in scene.chat.calls if call.word == "edit"][3:] == ["It snows."]

    async def test_an_error_leaves_what_was_said(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.finish("", "failed", "no model")
        await scene.reads(LONG.strip(), words.failed("no model"))
        await scene.settled()

    async def test_a_caller_who_has_gone_leaves_no_cursor_behind(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.hang_up("c1", "m1")
        scene.finish(LONG, "interrupted")
        await scene.reads(words.interrupted(LONG).strip())
        await scene.settled()

    async def test_it_can_be_switched_off(self, scene: AnswerScene) -> None:
        await scene.begin(streaming=Streaming(enabled=False))
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads(LONG.strip())
        assert [call.word for call in scene.chat.calls] == ["send"]

    async def test_a_platform_that_cannot_edit_gets_the_answer_whole(self, scene: AnswerScene) -> None:
        await scene.begin(can=[])
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads(LONG.strip())

    async def test_progress_keeps_to_the_rates_and_leaves_one_for_the_answer(self, scene: AnswerScene) -> None:
        await scene.begin(chat_rate=[4, 600.0])

        def more() -> list[Call]:
            scene.delta(LONG)
            return scene.chat.calls

        await until(lambda: len(more()) == 3)
        for _ in range(20):
            more()
            await asyncio.sleep(0.005)
        scene.finish("It snows.")
        await scene.reads("It snows.")
        assert scene.chat.floods == 0
        assert len(scene.chat.calls) == 4

    async def test_a_message_of_the_agent_stands_between(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await scene.reads("I send you what I have.", "This is it.")
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads("I send you what I have.", "This is it.", LONG.strip())
        await scene.settled()

    async def test_it_stands_below_what_was_said_also_where_the_disk_is_slow(
        self, scene: AnswerScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scene.begin()
        _, may_look = scene.hold_up(monkeypatch, "_of_turn")
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await asyncio.sleep(0.1)
        assert scene.texts == []
        may_look.set()
        await scene.reads("I send you what I have.", "This is it.")
        scene.finish("Done.")
        await scene.reads("I send you what I have.", "This is it.", "Done.")
        await scene.settled()


class TestFiles:
    async def made(self, scene: AnswerScene, name: str, data: bytes = b"\x89PNG\r\n\x1a\n1234") -> Path:
        """A file in the directory of the session."""
        session = scene.worker.assign.session_id
        path = scene.gateway.path / "work" / session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def test_a_file_of_the_answer_is_a_message_of_its_own(self, scene: AnswerScene) -> None:
        await scene.begin()
        path = await self.made(scene, "plot.png")
        scene.finish(f"Here it is.\nMEDIA:{path}")
        text, file = await scene.reads("Here it is.", "")
        assert (text.files, file.files) == ((), (str(path),))
        await scene.settled()
        assert [shown.final for shown in scene.chat.transcript()] == [False, True]
        assert [key for key, _, _ in await scene.states()] == [
            f"{scene.start.turn}:answer",
            f"{scene.start.turn}:answer:2",
        ]

    async def test_a_path_that_means_a_picture_is_sent_too(self, scene: AnswerScene) -> None:
        await scene.begin()
        path = await self.made(scene, "plot.png")
        scene.finish(f"Here it is:\n{path}")
        await scene.reads("Here it is:", "")

    @pytest.mark.parametrize("secret", ["config.yaml", ".env", "hermesd/state.db", "work/another/plot.png"])
    async def test_nothing_of_the_home_leaves_it(self, scene: AnswerScene, secret: str) -> None:
        await scene.begin()
        path = scene.gateway.path / secret
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n1234")
        link = await self.made(scene, "link.png")
        link.unlink()
        link.symlink_to(path)
        scene.finish(f"Take these.\nMEDIA:{path}\nMEDIA:{link}")
        (shown,) = await until_shown(scene, lambda text: text.count("not sent") == 2)
        assert shown.files == ()
        assert shown.text.startswith("Take these.\n[file ")

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("/etc/shadow", "it may hold secrets"),
            ("/dev/zero", "it is no ordinary file"),
            ("/proc/self/environ", "it is no ordinary file"),
            ("/nowhere/a.png", "it does not exist"),
            ("/tmp", "it is a directory"),
            ("~/.ssh/id_rsa", "it may hold secrets"),
        ],
    )
    async def test_what_is_refused_is_named_with_the_reason(self, scene: AnswerScene, source: str, reason: str) -> None:
        await scene.begin()
        scene.finish(f"Here.\nMEDIA:{source}")
        await scene.reads(f"Here.\n[file {source.rsplit('/', 1)[-1].lstrip('.')}: not sent, {reason}]")

    async def test_what_is_too_large_is_named(self, scene: AnswerScene) -> None:
        await scene.begin(max_file_bytes=10)
        path = await self.made(scene, "plot.png")
        scene.finish(f"Here.\nMEDIA:{path}")
        (shown,) = await until_shown(scene, lambda text: "12 bytes are more than the 10" in text)
        assert shown.files == ()

    async def test_an_agent_s_own_send_obeys_the_same_rules(self, scene: AnswerScene) -> None:
        await scene.begin()
        path = await self.made(scene, "plot.png")
        other = scene.gateway.path / "config.yaml"
        other.write_text("secret")
        scene.worker.say(
            Send("s1", scene.start.turn, "", "Look.", (File(str(path), "a.png"), File(str(other), "b.yaml")))
        )
        _, file = await scene.reads("Look.\n[file b.yaml: not sent, it belongs to hermesd itself]", "")
        assert file.files == (str(path),)

    async def test_a_picture_of_a_private_address_is_not_fetched(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.finish("Look: ![a cat](http://127.0.0.1:9/cat.png)")
        (shown,) = await until_shown(scene, lambda text: "not sent" in text)
        assert "http://127.0.0.1:9/cat.png: not sent, cannot fetch" in shown.text
        assert "address of a private network" in shown.text


async def until_shown(scene: AnswerScene, so: Callable[[str], bool]) -> list[Shown]:
    await until(lambda: any(so(text) for text in scene.texts))
    return scene.chat.transcript()


class TestQuestions:
    async def ask(self, scene: AnswerScene, timeout: float = 60.0, **extra: Any) -> Shown:
        await scene.begin(**extra)
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), timeout))
        await until(lambda: len(scene.texts) == 1)
        return scene.chat.transcript()[0]

    async def test_a_platform_with_buttons_shows_them_under_the_question(self, scene: AnswerScene) -> None:
        shown = await self.ask(scene)
        assert (shown.text, shown.ask, shown.choices) == ("May I?", "q1", ("approve", "deny"))

    async def test_another_one_says_how_to_answer(self, scene: AnswerScene) -> None:
        shown = await self.ask(scene, can=["edit"])
        assert shown.text == "May I?\n\nAnswer with /approve or /deny."

    async def test_a_press_answers_and_takes_the_buttons_away(self, scene: AnswerScene) -> None:
        shown = await self.ask(scene)
        assert (await scene.chat.press("c1", shown.message_id, "approve", user="u1"))["taken"]
        await scene.reads("May I?\n\napprove, by u1")
        assert scene.chat.transcript()[0].choices is None
        await until(lambda: Answer("q1", "approve", "u1") in scene.worker.told)

    async def test_so_does_a_command(self, scene: AnswerScene) -> None:
        await self.ask(scene)
        await scene.gateway.say("/deny", chat="c1")
        await until(lambda: "May I?\n\ndeny, by u1" in scene.texts)

    async def test_and_the_end_of_its_time(self, scene: AnswerScene) -> None:
        await self.ask(scene, timeout=0.05)
        await scene.reads("May I?\n\nNobody answered in time.")

    async def test_and_the_end_of_its_turn(self, scene: AnswerScene) -> None:
        await self.ask(scene)
        scene.finish("I did without.")
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", "I did without.")

    async def test_and_the_end_of_hermesd(self, scene: AnswerScene) -> None:
        await self.ask(scene)
        await scene.gateway.again()
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", words.lost_with_hermesd())

    async def test_buttons_that_cannot_be_taken_away_now_are_later(self, scene: AnswerScene) -> None:
        await self.ask(scene)
        scene.chat.cut(2, error="retry", after=0.01, call="settle")
        scene.finish("I did without.")
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", "I did without.")

    async def down(self, scene: AnswerScene, *, returns: bool) -> dict[str, Any]:
        """It is asked while the platform is not up. Returns the adapters of the deliverer."""
        await scene.begin()
        scene.gateway.returns = returns
        adapters: dict[str, Any] = scene.gateway.deliverer.adapters  # type: ignore[assignment]
        adapters.clear()
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), 60.0))
        (key,) = scene.gateway.lanes.lanes
        await until(
            lambda: scene.gateway.lanes.approvals.of(key) or Answer("q1", "", "undeliverable") in scene.worker.told
        )
        assert await scene.gateway.deliverer.wait_idle(5.0)
        return adapters

    async def test_one_waits_for_a_platform_that_backs_off(self, scene: AnswerScene) -> None:
        adapters = await self.down(scene, returns=True)
        (key,) = scene.gateway.lanes.lanes
        assert [ask.ask for ask in scene.gateway.lanes.approvals.of(key)] == ["q1"]
        adapters["fake"] = scene.chat
        await scene.gateway.deliverer.platform_up("fake")
        (shown,) = await scene.reads("May I?")
        assert (await scene.chat.press("c1", shown.message_id, "approve", user="u1"))["taken"]
        await until(lambda: Answer("q1", "approve", "u1") in scene.worker.told)

    async def test_until_that_is_given_up(self, scene: AnswerScene) -> None:
        await self.down(scene, returns=True)
        assert Answer("q1", "", "undeliverable") not in scene.worker.told
        scene.gateway.deliverer.platform_gone("another")
        await asyncio.sleep(0.01)
        assert Answer("q1", "", "undeliverable") not in scene.worker.told
        scene.gateway.deliverer.platform_gone("fake")
        await until(lambda: Answer("q1", "", "undeliverable") in scene.worker.told)

    async def test_one_for_a_platform_that_cannot_ask_is_refused_at_once(self, scene: AnswerScene) -> None:
        await self.down(scene, returns=False)
        await until(lambda: Answer("q1", "", "undeliverable") in scene.worker.told)

    async def test_what_is_said_after_a_question_stands_below_it(self, scene: AnswerScene) -> None:
        await scene.begin()
        scene.delta("I would like to do something.")
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), 60.0))
        await scene.reads("I would like to do something.", "May I?")
        (key,) = scene.gateway.lanes.lanes
        await scene.gateway.lanes.orders.answer(key, "approve", "u1")
        scene.delta(LONG)
        await scene.reads("I would like to do something.", "May I?\n\napprove, by u1", LONG.strip() + CURSOR)
