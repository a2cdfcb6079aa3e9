"""What the core sends, as people see it at a real Synapse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.matrix.bot import Bot, direct, group, seen, shown
from harness.matrix.person import Event, Person

from hermesd.adapters.contract import (
    Adapter,
    CanDelete,
    CanEdit,
    CanFetch,
    CanReact,
    CanType,
    HasButtons,
    HasIdentity,
    Outbound,
    Question,
)
from hermesd.adapters.errors import Gone, Retry
from hermesd.adapters.matrix import sending
from hermesd.adapters.matrix.outbound import MAX_LENGTH


def test_the_adapter_can_what_matrix_can(bot: Bot) -> None:
    made = bot.make()
    for capability in (Adapter, CanEdit, CanDelete, CanType, CanReact, HasButtons, CanFetch, HasIdentity):
        assert isinstance(made, capability)


class TestText:
    async def test_markdown_is_shown_as_html_beside_what_was_written(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "A **bold** `word`\nand @room <script>")
        content = (await shown(anna, room, sent.message_id))["content"]
        assert content["msgtype"] == "m.text"
        assert content["body"] == "A **bold** `word`\nand @room <script>"
        assert content["format"] == "org.matrix.custom.html"
        assert content["formatted_body"] == ("A <strong>bold</strong> <code>word</code><br>and @room &lt;script&gt;")
        assert content["m.mentions"] == {}, "nobody is notified because of a word in the text"

    @pytest.mark.parametrize(
        ("kind", "msgtype"),
        [("answer", "m.text"), ("error", "m.text"), ("notice", "m.notice"), ("progress", "m.notice")],
    )
    async def test_a_word_of_hermesd_itself_is_a_notice(self, bot: Bot, anna: Person, kind: str, msgtype: str) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "so", kind=kind)
        assert (await shown(anna, room, sent.message_id))["content"]["msgtype"] == msgtype

    async def test_a_reply_quotes_and_an_answer_in_a_thread_is_in_it(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        asked = anna.say(room, "why?")
        sent = await bot.send(room, "because", "1", reply_to=asked)
        plain = await bot.send(room, "so", "2", reply_to=asked, quotes=False)
        threaded = await bot.send(room, "in there", "3", thread=asked, reply_to=asked)
        assert (await shown(anna, room, threaded.message_id))["content"]["m.relates_to"] == {
            "rel_type": "m.thread", "event_id": asked, "is_falling_back": True, "m.in_reply_to": {"event_id": asked},
        }  # fmt: skip
        contents = {one["event_id"]: one["content"] for one in anna.events[room]}
        assert contents[sent.message_id]["m.relates_to"] == {"m.in_reply_to": {"event_id": asked}}
        assert "m.relates_to" not in contents[plain.message_id]

    async def test_the_same_message_sent_again_is_there_once_also_after_a_restart(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        first = await bot.send(room, "once", "the key")
        second = await bot.send(room, "once, says the second try", "the key")
        await bot.again()
        third = await bot.send(room, "once", "the key")
        last = await bot.send(room, "another", "another key")
        assert first == second == third
        await shown(anna, room, last.message_id)
        assert [one["content"]["body"] for one in anna.messages(room, bot.user_id)] == ["once", "another"]

    async def test_what_is_no_text_is_left_out_of_it(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "a\x00b\x1b[31m\ud800")
        assert (await shown(anna, room, sent.message_id))["content"]["body"] == "ab[31m\ufffd"

    @pytest.mark.parametrize("text", ['\n"\\', "&<", "日本", "a"])
    async def test_a_message_of_any_text_of_full_length_is_taken_and_can_be_edited(
        self, bot: Bot, anna: Person, text: str
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        limit = bot.adapter.capabilities(bot.target(room)).max_length
        assert limit == MAX_LENGTH
        long = text * (limit // len(text.encode()))
        sent = await bot.send(room, long)
        await bot.adapter.edit(bot.target(room), sent.message_id, Outbound("k2", long[::-1]))
        event = await edited(anna, room, sent.message_id)
        assert event["content"]["m.new_content"]["body"] == long[::-1]


async def edited(person: Person, room: str, event_id: str) -> Event:
    """The latest change of a message."""

    def find() -> Event | None:
        changes = [
            one
            for one in person.events.get(room, ())
            if one.get("content", {}).get("m.relates_to", {}).get("rel_type") == "m.replace"
            and one["content"]["m.relates_to"]["event_id"] == event_id
        ]
        return changes[-1] if changes else None

    found: Event = await seen(person, find)
    return found


class TestChanges:
    async def test_an_edit_replaces_and_comes_twice_only_once(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "draft")
        final = Outbound("final", "the *end*")
        target = bot.target(room)
        assert await bot.adapter.edit(target, sent.message_id, final) == sent
        assert await bot.adapter.edit(target, sent.message_id, final) == sent
        last = await bot.send(room, "last", "last")
        await shown(anna, room, last.message_id)
        content = (await edited(anna, room, sent.message_id))["content"]
        assert content["body"] == "* the *end*"
        assert content["m.new_content"]["formatted_body"] == "the <em>end</em>"
        changes = [one for one in anna.events[room] if one["content"].get("m.new_content")]
        assert len(changes) == 1

    async def test_a_deleted_message_is_taken_back_and_one_that_is_not_there_is_no_error(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "oops")
        await bot.adapter.delete(bot.target(room), sent.message_id)
        await bot.adapter.delete(bot.target(room), sent.message_id)
        assert anna.event(room, sent.message_id)["content"] == {}
        await bot.adapter.delete(bot.target(room), "$nothing")

    async def test_a_reaction_takes_the_place_of_the_one_before_and_goes(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        asked = anna.say(room, "do it")
        await bot.core.message("do it")
        target = bot.target(room, reply_to=asked)
        await bot.adapter.react(target, "👀")
        assert reactions(anna, room, asked) == ["👀"]
        await bot.again()
        await bot.adapter.react(target, "✅")
        assert reactions(anna, room, asked) == ["✅"]
        await bot.adapter.react(target, "👀")
        assert reactions(anna, room, asked) == ["👀"]
        await bot.adapter.react(target, "")
        assert reactions(anna, room, asked) == []


def reactions(person: Person, room: str, event: str) -> list[str]:
    place = f"/_matrix/client/v1/rooms/{room}/relations/{event}/m.annotation"
    return [one["content"]["m.relates_to"]["key"] for one in person.call("GET", place)["chunk"] if one["content"]]


class TestSignsOfLife:
    async def test_typing_is_shown_and_ends_with_the_answer(
        self, bot: Bot, anna: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sending, "TYPING_SECONDS", 100.0)  # by itself it ends later than anybody waits here
        await bot.start()
        room = await direct(bot, anna)
        await bot.adapter.typing(bot.target(room))
        await seen(anna, lambda: anna.typing.get(room) == [bot.user_id])
        await bot.send(room, "here")
        await seen(anna, lambda: anna.typing.get(room) == [])

    async def test_a_message_is_told_to_be_read_when_it_is_being_answered_and_not_before(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        asked = anna.say(room, "seen?")
        await bot.core.message("seen?")
        anna.look()
        assert asked not in anna.receipts.get(room, {})
        await bot.adapter.typing(bot.target(room, reply_to=asked))
        await seen(anna, lambda: bot.user_id in anna.receipts.get(room, {}).get(asked, {}).get("m.read", {}))


class TestQuestions:
    ASK = Question("ask-1", ("approve", "deny"))

    async def test_a_choice_is_a_reaction_and_pressing_it_answers(self, bot: Bot, anna: Person, ben: Person) -> None:
        await bot.start()
        room = await group(bot, anna, ben)
        sent = await bot.send(room, "May I?", kind="question", question=self.ASK)
        assert (await shown(anna, room, sent.message_id))["content"]["body"].endswith("✅ approve · ❌ deny")
        assert sorted(reactions(anna, room, sent.message_id)) == sorted(["✅", "❌"])
        ben.react(room, sent.message_id, "🎉")
        anna.react(room, sent.message_id, "✅\ufe0f")
        [press] = await bot.core.until(lambda: bot.core.presses)
        assert (press.user_id, press.ask, press.choice) == (anna.user_id, "ask-1", "approve")
        assert (press.chat_id, press.message_id) == (room, sent.message_id)

    async def test_a_reaction_counts_that_is_faster_than_the_servers_word_of_the_question(
        self, bot: Bot, anna: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sending = bot.adapter._connected()
        put, asked, came, may_return = sending._put, sending.asked, asyncio.Event(), asyncio.Event()

        async def slow(*call: Any) -> str:
            event = await put(*call)
            await may_return.wait()
            return event

        async def looked(where: str) -> None:
            came.set()
            await asked(where)

        monkeypatch.setattr(sending, "_put", slow)
        monkeypatch.setattr(sending, "asked", looked)
        asking = asyncio.create_task(bot.send(room, "May I?", kind="question", question=self.ASK))
        [question] = await seen(anna, lambda: anna.messages(room, bot.user_id))
        anna.react(room, question["event_id"], "✅")
        await came.wait()
        assert bot.core.presses == []
        may_return.set()
        [press] = await bot.core.until(lambda: bot.core.presses)
        assert (press.choice, press.message_id) == ("approve", (await asking).message_id)

    async def test_it_can_be_answered_in_the_next_life_and_is_settled_in_its_place(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "May I?", kind="question", question=self.ASK)
        await bot.again()
        anna.react(room, sent.message_id, "❌")
        [press] = await bot.core.until(lambda: bot.core.presses)
        assert press.choice == "deny"
        await bot.adapter.settle(bot.target(room), sent.message_id, "Denied by anna.")
        assert (await edited(anna, room, sent.message_id))["content"]["m.new_content"]["body"] == "Denied by anna."
        assert reactions(anna, room, sent.message_id) == ["❌"], "hers"
        anna.react(room, sent.message_id, "✅")
        anna.say(room, "later")
        await bot.core.message("later")
        assert len(bot.core.presses) == 1

    async def test_one_that_cannot_be_kept_was_sent_all_the_same(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        bot.core.refusal = "the disk is full"
        sent = await bot.send(room, "May I?", kind="question", question=self.ASK)
        bot.core.refusal = ""
        await shown(anna, room, sent.message_id)
        anna.react(room, sent.message_id, "❌")
        [press] = await bot.core.until(lambda: bot.core.presses)
        assert press.choice == "deny"

    async def test_other_choices_have_numbers(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        question = Question("ask-2", ("tea", "coffee"))
        sent = await bot.send(room, "What will it be?", kind="question", question=question)
        anna.react(room, sent.message_id, "2️⃣")
        [press] = await bot.core.until(lambda: bot.core.presses)
        assert press.choice == "coffee"


class TestTrouble:
    async def test_a_room_that_is_not_there_or_that_we_left_is_gone(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        for nowhere in ("nowhere", "!nowhere:localhost"):
            with pytest.raises(Gone, match="cannot send"):
                await bot.send(nowhere, "hello")
        bot.account.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
        with pytest.raises(Gone, match="M_FORBIDDEN"):
            await bot.send(room, "hello")

    async def test_too_many_messages_are_put_off_for_as_long_as_the_server_says(self, bot: Bot, anna: Person) -> None:
        limited = bot.server.person("limited", limited=True)
        bot.environ["MATRIX_ACCESS_TOKEN"] = limited.token
        bot.account = limited
        await bot.start()
        room = await direct(bot, anna)

        async def many() -> None:
            for number in range(30):
                await bot.send(room, f"message {number}", str(number))

        # A fresh Synapse allows ten at once, and then one in five seconds.
        with pytest.raises(Retry, match="M_LIMIT_EXCEEDED") as caught:
            await many()
        assert 0.0 < caught.value.after <= 5.0
        await asyncio.sleep(caught.value.after)
        await bot.send(room, "now", "now")
        limited.close()

    async def test_without_the_server_a_message_is_put_off_and_goes_when_it_is_back(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        url = bot.adapter._client.api.base_url  # type: ignore[union-attr]
        bot.adapter._client.api.base_url = url.with_port(9)  # type: ignore[union-attr]
        with pytest.raises(Retry, match="cannot send"):
            await bot.send(room, "hello")
        bot.adapter._client.api.base_url = url  # type: ignore[union-attr]
        await bot.send(room, "hello")

    async def test_nothing_is_sent_by_an_adapter_that_was_stopped(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        adapter = bot.adapter
        await bot.stop()
        with pytest.raises(Retry, match="not connected"):
            await adapter.send(bot.target(room), Outbound("k", "hello"))
