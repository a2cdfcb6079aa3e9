"""What a chat platform shows of a turn: its answer while it is written and when it is whole, files, questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Gateway, Played, until

from hermesd.adapters.contract import AdapterSettings, Target
from hermesd.adapters.errors import Retry
from hermesd.adapters.fake import FakeAdapter
from hermesd.adapters.fake_record import Shown
from hermesd.ipc.messages import Answer, Ask, Delta, File, Send, StartTurn, ToolUse
from hermesd.supervisor.delivery import streams
from hermesd.supervisor.delivery.parts import PERHAPS_AGAIN
from hermesd.supervisor.delivery.settings import DeliverySettings, Places, Streaming
from hermesd.supervisor.gateway import words
from hermesd.supervisor.journal import progress
from hermesd.supervisor.journal.rows import ProgressRow

CURSOR = " \u2589"
LONG = "It rains in Paris, and it will go on. "  # more than the threshold


class Scene:
    """One chat of a platform with these powers, and its worker."""

    def __init__(self, gateway: Gateway):
        self.gateway = gateway
        self.worker: Played
        self.start: StartTurn

    async def begin(self, text: str = "hello", *, streaming: Streaming | None = None, **extra: Any) -> Scene:
        extra = {"can": ["edit", "delete", "buttons"], "max_length": 2000, "max_file_bytes": 1000, **extra}
        self.gateway.chat = FakeAdapter(AdapterSettings("fake", extra=extra))
        path = self.gateway.path
        self.gateway.delivery = DeliverySettings(
            streaming or Streaming(interval=0.02), places=Places(path, path / "media", path / "work")
        )
        await self.gateway.start()
        await self.gateway.say(text, chat="c1", message_id="m1")
        self.worker = await self.gateway.pool.ready()
        self.start = await self.worker.accept()
        return self

    def delta(self, text: str) -> None:
        self.worker.say(Delta(self.start.turn, text))

    def tool(self) -> None:
        self.worker.say(ToolUse(self.start.turn, "weather", "Paris", "started"))

    def finish(self, text: str, outcome: str = "done", error: str = "") -> None:
        self.worker.finish(self.start, text, outcome, error)

    @property
    def chat(self) -> FakeAdapter:
        return self.gateway.chat

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.chat.transcript()]

    async def reads(self, *texts: str) -> list[Shown]:
        """Wait until the chat reads so, whole."""

        def so() -> bool:
            return self.texts == list(texts)

        try:
            await until(so)
        except AssertionError:
            pytest.fail(f"the chat reads {self.texts}")
        return self.chat.transcript()

    async def settled(self) -> None:
        """Everything is sent, and no progress is left in the journal."""
        assert await self.gateway.deliverer.wait_idle(5.0)
        await self.gateway.tasks.settle(5.0)
        assert await self.gateway.rows("SELECT * FROM progress") == []

    async def states(self) -> list[tuple[Any, ...]]:
        return await self.gateway.rows("SELECT key, state, platform_message_id FROM outbox ORDER BY id")


@pytest.fixture
def scene(gateway: Gateway) -> Scene:
    return Scene(gateway)


class TestProgress:
    async def test_an_answer_is_one_message_that_grows_and_ends_without_the_cursor(self, scene: Scene) -> None:
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

    async def test_thoughts_and_directives_are_never_seen(self, scene: Scene) -> None:
        await scene.begin()
        picture = scene.gateway.path / "work" / "s"
        scene.delta("<think>They ask for the weather in Paris.</think>\n" + LONG + "\nMEDIA:")
        scene.delta(f"{picture}/none.png")
        await scene.reads(LONG.strip() + CURSOR)
        scene.finish("<think>They ask for the weather in Paris.</think>\n" + LONG)
        await scene.reads(LONG.strip())
        assert not [call for call in scene.chat.calls if "think" in call.text or "MEDIA" in call.text]

    async def test_what_was_said_before_a_tool_stays_above(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        await scene.reads("Let me look.")
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        scene.finish(LONG)
        await scene.reads("Let me look.", LONG.strip())
        await scene.settled()

    async def test_an_answer_that_holds_what_was_said_before_the_tool(self, scene: Scene) -> None:
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

    async def test_a_long_answer_goes_on_in_further_messages(self, scene: Scene) -> None:
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

    async def test_a_message_that_is_not_needed_in_the_end_is_taken_back(self, scene: Scene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.finish("Short.")
        await scene.reads("Short.")
        await scene.settled()

    async def test_where_nothing_can_be_taken_back_it_is_emptied(self, scene: Scene) -> None:
        await scene.begin(max_length=700, can=["edit"])
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.finish("Short.")
        await scene.reads("Short.", "\u2026")
        await scene.settled()

    async def test_an_answer_is_sent_anew_when_its_message_can_no_longer_be_edited(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.lock("out-1")
        scene.finish("It snows.")
        (shown,) = await scene.reads("It snows.")
        assert shown.message_id == "out-2"
        await scene.settled()

    @pytest.mark.parametrize("error", ["retry", "uncertain"])
    async def test_a_last_edit_that_fails_for_now_is_repeated_without_a_mark(self, scene: Scene, error: str) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(3, error=error, after=0.01, call="edit")
        scene.finish("It snows.")
        (shown,) = await scene.reads("It snows.")
        assert shown.message_id == "out-1"
        await scene.settled()

    async def test_a_platform_that_tells_no_id_gets_the_answer_once(self, scene: Scene) -> None:
        await scene.begin(withhold_ids=True)
        for _ in range(5):
            scene.delta(LONG)
            scene.tool()
            await asyncio.sleep(0.01)
        scene.finish("It snows.")
        await scene.reads(LONG.strip() + CURSOR, "It snows.")
        await scene.settled()

    async def test_an_answer_comes_whole_when_progress_fails_for_ever(self, scene: Scene) -> None:
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

    async def test_an_error_leaves_what_was_said(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.finish("", "failed", "no model")
        await scene.reads(LONG.strip(), words.failed("no model"))
        await scene.settled()

    async def test_a_caller_who_has_gone_leaves_no_cursor_behind(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.chat.hang_up("c1", "m1")
        scene.finish(LONG, "interrupted")
        await scene.reads(words.interrupted(LONG).strip())
        await scene.settled()

    async def test_it_can_be_switched_off(self, scene: Scene) -> None:
        await scene.begin(streaming=Streaming(enabled=False))
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads(LONG.strip())
        assert [call.word for call in scene.chat.calls] == ["send"]

    async def test_a_platform_that_cannot_edit_gets_the_answer_whole(self, scene: Scene) -> None:
        await scene.begin(can=[])
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads(LONG.strip())

    async def test_progress_keeps_to_the_rates_and_leaves_one_for_the_answer(self, scene: Scene) -> None:
        await scene.begin(chat_rate=[4, 60.0])
        for _ in range(20):
            scene.delta(LONG)
            await asyncio.sleep(0.005)
        scene.finish("It snows.")
        await scene.reads("It snows.")
        assert scene.chat.floods == 0
        assert len(scene.chat.calls) == 4

    async def test_a_message_of_the_agent_stands_between(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await scene.reads("I send you what I have.", "This is it.")
        scene.delta(LONG)
        scene.finish(LONG)
        await scene.reads("I send you what I have.", "This is it.", LONG.strip())
        await scene.settled()

    async def test_it_stands_below_what_was_said_also_where_the_disk_is_slow(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scene.begin()
        shows, found = scene.gateway.deliverer.streams, asyncio.Event()
        look = shows._of_turn

        async def slowly(turn: str, target: Target) -> list[ProgressRow]:
            await found.wait()
            return await look(turn, target)

        monkeypatch.setattr(shows, "_of_turn", slowly)
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await asyncio.sleep(0.1)
        assert scene.texts == []
        found.set()
        await scene.reads("I send you what I have.", "This is it.")
        scene.finish("Done.")
        await scene.reads("I send you what I have.", "This is it.", "Done.")
        await scene.settled()


class TestClosedChats:
    """The platform has said "not before so many seconds", to whatever call it was."""

    HERE = Target("fake", "c1", reply_to="m1")
    SECONDS = 0.4

    async def window(self, scene: Scene) -> None:
        """Wait for its end; nobody calls meanwhile."""
        closed_for = scene.gateway.deliverer.closed_for
        await until(lambda: closed_for(self.HERE) > 0)
        before = len(scene.chat.calls)
        while closed_for(self.HERE) > 0.001:
            assert scene.chat.calls[before:] == []
            await asyncio.sleep(0.001)

    @pytest.mark.parametrize("call", ["send", "edit"])
    async def test_the_answer_comes_in_it_and_what_was_said_before_the_tool_is_whole(
        self, scene: Scene, call: str
    ) -> None:
        await scene.begin(can=["edit", "delete", "type"], streaming=Streaming(interval=0.01, threshold=1))
        if call == "edit":
            scene.delta(LONG)
            await scene.reads(LONG.strip() + CURSOR)
        scene.chat.cut(1, error="flood", after=self.SECONDS, call=call)
        scene.delta("Let me look for it.")
        await until(lambda: scene.gateway.deliverer.closed_for(self.HERE) > 0)
        scene.delta(" In the garden.")
        scene.tool()
        scene.delta(LONG)
        scene.finish("It snows.")
        scene.gateway.lanes.presence.type_in(self.HERE)
        await self.window(scene)
        before = LONG if call == "edit" else ""
        await scene.reads(f"{before}Let me look for it. In the garden.", "It snows.")
        await scene.settled()

    async def test_nothing_is_taken_back_and_no_answer_comes(self, scene: Scene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.finish("Short.")
        await self.window(scene)
        await scene.reads("Short.")
        await scene.settled()

    async def test_what_is_put_off_while_it_is_taken_back_closes_it_too(self, scene: Scene) -> None:
        await scene.begin(max_length=700)
        scene.delta("x" * 900)
        await until(lambda: len(scene.texts) == 2 and CURSOR in scene.texts[1])
        scene.chat.cut(1, error="flood", after=self.SECONDS, call="delete")
        scene.finish("Short.")
        await until(lambda: any(call.word == "delete" for call in scene.chat.calls))
        await until(lambda: scene.texts[0] == "Short." or scene.gateway.deliverer.closed_for(self.HERE) > 0)
        await self.window(scene)
        await scene.reads("Short.")
        await scene.settled()

    async def test_buttons_stay_until_it_is_over_and_go_then(self, scene: Scene) -> None:
        await scene.begin()
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), 60.0))
        await scene.reads("May I?")
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.chat.cut(3, error="retry", after=0.0, call="settle")
        assert (await scene.chat.press("c1", "out-1", "approve", user="u1"))["taken"]
        await self.window(scene)
        await scene.reads("May I?\n\napprove, by u1")

    async def test_what_a_turn_without_an_answer_has_shown_loses_its_cursor(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        scene.gateway.deliverer.heed(self.HERE, Retry("flood", after=self.SECONDS, flood=True))
        scene.gateway.deliverer.abandon(scene.start.turn, self.HERE)
        await self.window(scene)
        await scene.reads(LONG.strip())
        await scene.settled()

    async def test_and_does_in_the_next_life(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta("Let me look for it.")
        await scene.reads("Let me look for it." + CURSOR)
        scene.chat.cut(9, error="flood", after=60.0, call="edit")
        scene.tool()
        await until(lambda: scene.gateway.deliverer.closed_for(self.HERE) > 0)
        await scene.gateway.again()
        scene.chat.cut(0, call="edit")
        await scene.reads("Let me look for it.", words.lost_with_hermesd())

    async def test_what_stands_between_waits_for_what_was_said_before_it(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "STILL_SECONDS", 0.03)
        await scene.begin()
        scene.chat.cut(1, error="flood", after=self.SECONDS)
        scene.delta("I send you what I have.")
        scene.worker.say(Send("s1", scene.start.turn, "", "This is it."))
        await self.window(scene)
        await scene.reads("I send you what I have.", "This is it.")


class TestLaterLives:
    async def test_a_turn_that_hermesd_took_along_is_ended_in_its_message(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        await scene.gateway.again()
        await scene.reads(words.lost_with_hermesd())
        await scene.settled()

    async def test_and_what_was_said_before_a_tool_stays(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta("Let me look.")
        scene.tool()
        scene.delta(LONG)
        await scene.reads("Let me look.", LONG.strip() + CURSOR)
        await scene.gateway.again()
        await scene.reads("Let me look.", words.lost_with_hermesd())

    async def test_a_worker_that_lives_on_goes_on_in_the_same_message(self, scene: Scene) -> None:
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
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await scene.begin(exact_resends=True)
        scene.chat.cut(100, delivered=True)
        scene.delta(LONG)
        await scene.reads(LONG.strip() + CURSOR)
        (scene.worker,) = await scene.gateway.taken_over()
        scene.chat.cut(0)
        shows, may, looks = scene.gateway.deliverer.streams, asyncio.Event(), []
        look = shows._sent_again

        async def slowly(row: ProgressRow) -> str | None:
            looks.append(row)
            await may.wait()
            return await look(row)

        monkeypatch.setattr(shows, "_sent_again", slowly)
        scene.worker.snapshot(turn=scene.start.turn, text=LONG)
        await until(lambda: looks)
        scene.finish("It snows.")
        await until(lambda: shows._streams[scene.start.turn].ended)
        await scene.states()  # comes after what is read for a second search
        await asyncio.sleep(0)
        may.set()
        await scene.reads("It snows.")
        await scene.settled()
        assert len(looks) == 1
        await scene.gateway.again()
        await scene.reads("It snows.")

    async def test_a_message_of_an_answer_is_never_taken_back(self, scene: Scene) -> None:
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

    async def test_an_answer_that_could_not_be_sent_takes_its_message_in_the_next_life(self, scene: Scene) -> None:
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

    async def test_a_second_try_of_a_turn_writes_over_the_first(self, scene: Scene) -> None:
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

    async def test_a_cut_send_needs_no_mark_where_the_platform_knows_it_again(self, scene: Scene) -> None:
        await scene.begin(can=[], exact_resends=True)
        scene.chat.cut(1, delivered=True, after=0.0)
        scene.finish("It snows.")
        await scene.reads("It snows.")
        await scene.settled()

    async def test_and_needs_one_elsewhere(self, scene: Scene) -> None:
        await scene.begin(can=[])
        scene.chat.cut(1, delivered=True, after=0.0)
        scene.finish("It snows.")
        await scene.reads("It snows.", f"{PERHAPS_AGAIN}\n\nIt snows.")


class TestFiles:
    async def made(self, scene: Scene, name: str, data: bytes = b"\x89PNG\r\n\x1a\n1234") -> Path:
        """A file in the directory of the session."""
        session = scene.worker.assign.session_id
        path = scene.gateway.path / "work" / session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def test_a_file_of_the_answer_is_a_message_of_its_own(self, scene: Scene) -> None:
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

    async def test_a_path_that_means_a_picture_is_sent_too(self, scene: Scene) -> None:
        await scene.begin()
        path = await self.made(scene, "plot.png")
        scene.finish(f"Here it is:\n{path}")
        await scene.reads("Here it is:", "")

    @pytest.mark.parametrize("secret", ["config.yaml", ".env", "hermesd/state.db", "work/another/plot.png"])
    async def test_nothing_of_the_home_leaves_it(self, scene: Scene, secret: str) -> None:
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
    async def test_what_is_refused_is_named_with_the_reason(self, scene: Scene, source: str, reason: str) -> None:
        await scene.begin()
        scene.finish(f"Here.\nMEDIA:{source}")
        await scene.reads(f"Here.\n[file {source.rsplit('/', 1)[-1].lstrip('.')}: not sent, {reason}]")

    async def test_what_is_too_large_is_named(self, scene: Scene) -> None:
        await scene.begin(max_file_bytes=10)
        path = await self.made(scene, "plot.png")
        scene.finish(f"Here.\nMEDIA:{path}")
        (shown,) = await until_shown(scene, lambda text: "12 bytes are more than the 10" in text)
        assert shown.files == ()

    async def test_an_agent_s_own_send_obeys_the_same_rules(self, scene: Scene) -> None:
        await scene.begin()
        path = await self.made(scene, "plot.png")
        other = scene.gateway.path / "config.yaml"
        other.write_text("secret")
        scene.worker.say(
            Send("s1", scene.start.turn, "", "Look.", (File(str(path), "a.png"), File(str(other), "b.yaml")))
        )
        _, file = await scene.reads("Look.\n[file b.yaml: not sent, it belongs to hermesd itself]", "")
        assert file.files == (str(path),)

    async def test_a_picture_of_a_private_address_is_not_fetched(self, scene: Scene) -> None:
        await scene.begin()
        scene.finish("Look: ![a cat](http://127.0.0.1:9/cat.png)")
        (shown,) = await until_shown(scene, lambda text: "not sent" in text)
        assert "http://127.0.0.1:9/cat.png: not sent, cannot fetch" in shown.text
        assert "address of a private network" in shown.text


async def until_shown(scene: Scene, so: Callable[[str], bool]) -> list[Shown]:
    await until(lambda: any(so(text) for text in scene.texts))
    return scene.chat.transcript()


class TestQuestions:
    async def ask(self, scene: Scene, timeout: float = 60.0, **extra: Any) -> Shown:
        await scene.begin(**extra)
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), timeout))
        await until(lambda: len(scene.texts) == 1)
        return scene.chat.transcript()[0]

    async def test_a_platform_with_buttons_shows_them_under_the_question(self, scene: Scene) -> None:
        shown = await self.ask(scene)
        assert (shown.text, shown.ask, shown.choices) == ("May I?", "q1", ("approve", "deny"))

    async def test_another_one_says_how_to_answer(self, scene: Scene) -> None:
        shown = await self.ask(scene, can=["edit"])
        assert shown.text == "May I?\n\nAnswer with /approve or /deny."

    async def test_a_press_answers_and_takes_the_buttons_away(self, scene: Scene) -> None:
        shown = await self.ask(scene)
        assert (await scene.chat.press("c1", shown.message_id, "approve", user="u1"))["taken"]
        await scene.reads("May I?\n\napprove, by u1")
        assert scene.chat.transcript()[0].choices is None
        await until(lambda: Answer("q1", "approve", "u1") in scene.worker.told)

    async def test_so_does_a_command(self, scene: Scene) -> None:
        await self.ask(scene)
        await scene.gateway.say("/deny", chat="c1")
        await until(lambda: "May I?\n\ndeny, by u1" in scene.texts)

    async def test_and_the_end_of_its_time(self, scene: Scene) -> None:
        await self.ask(scene, timeout=0.05)
        await scene.reads("May I?\n\nNobody answered in time.")

    async def test_and_the_end_of_its_turn(self, scene: Scene) -> None:
        await self.ask(scene)
        scene.finish("I did without.")
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", "I did without.")

    async def test_and_the_end_of_hermesd(self, scene: Scene) -> None:
        await self.ask(scene)
        await scene.gateway.again()
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", words.lost_with_hermesd())

    async def test_buttons_that_cannot_be_taken_away_now_are_later(self, scene: Scene) -> None:
        await self.ask(scene)
        scene.chat.cut(2, error="retry", after=0.01, call="settle")
        scene.finish("I did without.")
        await scene.reads(f"May I?\n\n{words.QUESTION_IS_OVER}", "I did without.")

    async def down(self, scene: Scene, *, returns: bool) -> dict[str, Any]:
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

    async def test_one_waits_for_a_platform_that_backs_off(self, scene: Scene) -> None:
        adapters = await self.down(scene, returns=True)
        (key,) = scene.gateway.lanes.lanes
        assert [ask.ask for ask in scene.gateway.lanes.approvals.of(key)] == ["q1"]
        adapters["fake"] = scene.chat
        await scene.gateway.deliverer.platform_up("fake")
        (shown,) = await scene.reads("May I?")
        assert (await scene.chat.press("c1", shown.message_id, "approve", user="u1"))["taken"]
        await until(lambda: Answer("q1", "approve", "u1") in scene.worker.told)

    async def test_until_that_is_given_up(self, scene: Scene) -> None:
        await self.down(scene, returns=True)
        assert Answer("q1", "", "undeliverable") not in scene.worker.told
        scene.gateway.deliverer.platform_gone("another")
        await asyncio.sleep(0.01)
        assert Answer("q1", "", "undeliverable") not in scene.worker.told
        scene.gateway.deliverer.platform_gone("fake")
        await until(lambda: Answer("q1", "", "undeliverable") in scene.worker.told)

    async def test_one_for_a_platform_that_cannot_ask_is_refused_at_once(self, scene: Scene) -> None:
        await self.down(scene, returns=False)
        await until(lambda: Answer("q1", "", "undeliverable") in scene.worker.told)

    async def test_what_is_said_after_a_question_stands_below_it(self, scene: Scene) -> None:
        await scene.begin()
        scene.delta("I would like to do something.")
        scene.worker.say(Ask("q1", scene.start.turn, "May I?", ("approve", "deny"), 60.0))
        await scene.reads("I would like to do something.", "May I?")
        (key,) = scene.gateway.lanes.lanes
        await scene.gateway.lanes.orders.answer(key, "approve", "u1")
        scene.delta(LONG)
        await scene.reads("I would like to do something.", "May I?\n\napprove, by u1", LONG.strip() + CURSOR)
