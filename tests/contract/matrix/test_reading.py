"""What people write at a real Synapse, as the core gets it."""

from __future__ import annotations

import time

import pytest
from harness.matrix.bot import Bot, direct, group, state
from harness.matrix.person import Person

from hermesd.adapters.contract import Cursor
from hermesd.adapters.matrix import syncing


class TestDirectChats:
    async def test_an_invitation_is_accepted_and_what_was_said_since_then_arrives(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = anna.create_room(bot.user_id, direct=True)
        anna.say(room, "hello")
        message = await bot.core.message("hello")
        assert message.chat_id == room
        assert message.user_id == anna.user_id
        assert message.user_name == anna.user_id[1:].partition(":")[0]
        assert message.chat_type == "dm"
        assert message.thread_id == ""
        assert abs(message.sent_at - time.time()) < 60

    async def test_it_is_marked_as_direct_for_all_clients_of_the_account(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        anna.say(room, "hello")
        await bot.core.message("hello")
        place = f"/_matrix/client/v3/user/{bot.user_id}/account_data/m.direct"
        assert bot.account.call("GET", place) == {anna.user_id: [room]}

    async def test_a_thread_of_a_direct_chat_is_a_conversation_of_its_own(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        root = anna.say(room, "one")
        anna.say(room, "two", thread=root)
        assert (await bot.core.message("two")).thread_id == root
        assert (await bot.core.message("one")).thread_id == ""

    @pytest.mark.parametrize("wanted", [False, True])
    async def test_a_mention_in_a_direct_chat_begins_a_thread_if_so_wanted(
        self, bot: Bot, anna: Person, wanted: bool
    ) -> None:
        bot.environ["MATRIX_DM_MENTION_THREADS"] = str(wanted).lower()
        await bot.start()
        room = await direct(bot, anna)
        event = anna.say(room, f"{bot.user_id}: look", mention=bot.user_id)
        assert (await bot.core.message("look")).thread_id == (event if wanted else "")


class TestRooms:
    async def test_only_what_mentions_us_is_ours_and_the_answer_begins_a_thread(
        self, bot: Bot, anna: Person, ben: Person
    ) -> None:
        await bot.start()
        room = await group(bot, anna, ben, name="The kitchen")
        anna.say(room, "not for you")
        event = anna.say(room, f"{bot.user_id}, are you there?", mention=bot.user_id)
        message = await bot.core.message("are you there?")
        assert (message.chat_type, message.chat_name, message.thread_id) == ("group", "The kitchen", event)
        assert bot.core.texts == ["are you there?"]

    async def test_in_a_thread_that_we_take_part_in_nobody_has_to_mention_us_also_after_a_restart(
        self, bot: Bot, anna: Person, ben: Person
    ) -> None:
        await bot.start()
        room = await group(bot, anna, ben)
        root = anna.say(room, "hey", mention=bot.user_id)
        await bot.core.message("hey")
        await bot.again()
        ben.say(room, "and another thing", thread=root)
        assert (await bot.core.message("and another thing")).thread_id == root

    async def test_without_auto_thread_the_answer_stays_in_the_room(self, bot: Bot, anna: Person, ben: Person) -> None:
        bot.environ["MATRIX_AUTO_THREAD"] = "false"
        await bot.start()
        room = await group(bot, anna, ben)
        anna.say(room, "hey", mention=bot.user_id)
        assert (await bot.core.message("hey")).thread_id == ""

    async def test_a_free_room_and_one_without_gating_need_no_mention(
        self, bot: Bot, anna: Person, ben: Person
    ) -> None:
        await bot.start()
        room = await group(bot, anna, ben)
        other = await group(bot, anna, ben)
        bot.environ["MATRIX_FREE_RESPONSE_ROOMS"] = room
        await bot.again()
        anna.say(other, "not this")
        anna.say(room, "but this")
        await bot.core.message("but this")
        anna.say(room, "this is of a later batch")
        await bot.core.message("this is of a later batch")
        bot.environ["MATRIX_REQUIRE_MENTION"] = "false"
        await bot.again()
        anna.say(other, "and now this")
        await bot.core.message("and now this")
        assert bot.core.texts == ["but this", "this is of a later batch", "and now this"]

    async def test_a_pill_counts_as_a_mention_and_a_name_where_no_list_is_sent(
        self, bot: Bot, anna: Person, ben: Person
    ) -> None:
        name = {"displayname": "Robo"}
        bot.account.call("PUT", f"/_matrix/client/v3/profile/{bot.user_id}/displayname", name)
        await bot.start()
        room = await group(bot, anna, ben)
        html = {"format": "org.matrix.custom.html", "m.mentions": {}}
        pill = f'<a href="https://matrix.to/#/{bot.user_id}">Robo</a> by pill'
        anna.say(room, "Robo by pill", formatted_body=pill, **html)
        anna.say(room, "robo: by name")
        anna.say(room, "Robo is named only", **{"m.mentions": {}})
        anna.say(room, "last", mention=bot.user_id)
        await bot.core.message("last")
        assert bot.core.texts == ["by pill", "by name", "last"]


class TestWhatIsNoMessage:
    async def test_edits_notices_and_our_own_messages_are_left_alone(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        first = anna.say(room, "first")
        edit = {"m.new_content": {"msgtype": "m.text", "body": "changed"}}
        anna.say(room, "* changed", **edit, **{"m.relates_to": {"rel_type": "m.replace", "event_id": first}})
        anna.say(room, "I am a bot", msgtype="m.notice")
        await bot.send(room, "an answer")
        gone = anna.say(room, "taken back")
        anna.say(room, "last")
        await bot.core.message("last")
        assert bot.core.texts == ["first", "taken back", "last"]
        assert gone

    async def test_what_was_taken_back_before_it_came_is_not_there(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        await bot.stop()
        gone = anna.say(room, "taken back")
        anna.call("PUT", f"/_matrix/client/v3/rooms/{room}/redact/{gone}/1", {})
        anna.say(room, "last")
        await bot.start()
        await bot.core.message("last")
        assert bot.core.texts == ["last"]

    async def test_an_event_of_nonsense_keeps_nobody_else_from_being_heard(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        for nonsense in (
            {"msgtype": "m.text", "body": ""}, {"msgtype": "org.example.odd", "body": "   "},
            {"msgtype": "m.text", "body": "odd", "m.relates_to": "x", "formatted_body": {}},
            {"msgtype": "m.image", "body": "x.png", "url": "http://127.0.0.1/x.png"},
            {"msgtype": "m.image", "body": "x.png", "info": 4, "file": [], "url": "mxc://a/b"},
        ):  # fmt: skip
            anna.put(room, "m.room.message", nonsense)
        anna.put(room, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "key": {}}})
        anna.put(room, "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": 1})
        anna.say(room, "sense")
        await bot.core.message("sense")
        assert bot.core.texts == ["odd", "x.png", "", "sense"]
        assert [one.remote for message in bot.core.inbox for one in message.attachments] == ["mxc://a/b"]


class TestReplies:
    async def test_a_quoted_message_comes_along_from_a_fallback_or_from_the_server(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        sent = await bot.send(room, "the earth is round")
        reply = {"m.relates_to": {"m.in_reply_to": {"event_id": sent.message_id}}}
        anna.say(room, f"> <{bot.user_id}> what **it** said\n> twice\n\nnew client says", **reply)
        anna.say(room, "no fallback", **reply)
        old = await bot.core.message("new client says")
        assert (old.reply_to_id, old.reply_to_text) == (sent.message_id, "what **it** said\ntwice")
        assert (await bot.core.message("no fallback")).reply_to_text == "the earth is round"

    async def test_what_a_thread_adds_for_old_clients_is_no_quote(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        root = anna.say(room, "root")
        relation = {
            "rel_type": "m.thread", "event_id": root, "is_falling_back": True, "m.in_reply_to": {"event_id": root},
        }  # fmt: skip
        anna.say(room, "more", **{"m.relates_to": relation})
        message = await bot.core.message("more")
        assert (message.thread_id, message.reply_to_id) == (root, "")


class TestNothingIsLost:
    async def test_what_was_there_before_the_first_start_is_history(self, bot: Bot, anna: Person) -> None:
        room = anna.create_room(bot.user_id, direct=True)
        bot.account.join(room)
        anna.say(room, "long ago")
        await bot.start()
        anna.say(room, "now")
        await bot.core.message("now")
        assert bot.core.texts == ["now"]

    async def test_what_was_said_before_we_were_invited_is_history(self, bot: Bot, anna: Person, ben: Person) -> None:
        await bot.start()
        room = anna.create_room(ben.user_id)
        ben.join(room)
        anna.say(room, "among us", mention=bot.user_id)
        anna.invite(room, bot.user_id)
        anna.say(room, "come in", mention=bot.user_id)
        await bot.core.message("come in")
        assert bot.core.texts == ["come in"]

    async def test_an_invitation_while_we_were_away_is_accepted_and_its_messages_arrive(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        await bot.stop()
        room = anna.create_room(bot.user_id, direct=True)
        anna.say(room, "are you there?")
        await bot.start()
        assert (await bot.core.message("are you there?")).chat_id == room

    async def test_more_messages_than_one_sync_holds_arrive_all_and_in_order(
        self, bot: Bot, anna: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(syncing, "PAGE", 10)
        monkeypatch.setitem(syncing.FILTER["room"]["timeline"], "limit", 10)
        await bot.start()
        room = await direct(bot, anna)
        other = await direct(bot, anna)
        await bot.stop()
        for number in range(45):
            anna.say(room, f"message {number}")
        anna.say(other, "elsewhere")
        await bot.start()
        await bot.core.message("message 44", 60.0)
        await bot.core.message("elsewhere")
        assert [text for text in bot.core.texts if text != "elsewhere"] == [f"message {one}" for one in range(45)]

    async def test_what_the_journal_refuses_comes_again_and_what_follows_waits(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        room = await direct(bot, anna)
        bot.core.refusal = "the disk is full"
        anna.say(room, "one")
        await state(bot, "backing_off")
        assert "the disk is full" in bot.adapter.state().detail
        anna.say(room, "two")
        bot.core.refusal = ""
        await bot.core.message("two")
        assert bot.core.texts == ["one", "two"]
        assert bot.adapter.state().word == "online"

    async def test_a_message_that_was_not_kept_when_we_were_stopped_comes_in_the_next_life(
        self, bot: Bot, anna: Person
    ) -> None:
        await bot.start()
        room = await direct(bot, anna)
        anna.say(room, "zero")
        await bot.core.message("zero")
        bot.core.commit.clear()
        anna.say(room, "one")
        anna.say(room, "two")
        await bot.core.until(lambda: "one" in bot.core.arriving)
        await bot.stop()
        assert bot.core.texts == ["zero"]
        bot.core.commit.set()
        await bot.start()
        await bot.core.message("two")
        assert bot.core.texts == ["zero", "one", "two"]

    async def test_before_a_token_that_is_kept_lies_nothing_that_is_not(self, bot: Bot, anna: Person) -> None:
        await bot.start()
        rooms = [await direct(bot, anna), await direct(bot, anna)]
        tokens: list[tuple[str, set[str]]] = []
        keep = bot.core.keep_cursor

        async def note(platform: str, cursor: Cursor) -> None:
            if cursor.name == "sync":
                tokens.append((cursor.value, set(bot.core.texts)))
            await keep(platform, cursor)

        bot.core.keep_cursor = note  # type: ignore[method-assign]
        texts = {f"message {number}" for number in range(30)}
        for number, text in enumerate(sorted(texts)):
            anna.say(rooms[number % 2], text)
        await bot.core.until(lambda: len(bot.core.inbox) == 30)
        anna.say(rooms[0], "later")
        await bot.core.message("later")
        assert tokens
        for token, kept in tokens:
            assert texts - kept <= texts_after(bot.account, token)


def texts_after(person: Person, token: str) -> set[str]:
    """What a sync from there shows."""
    limits = '{"room":{"timeline":{"limit":1000}}}'
    answer = person.call("GET", "/_matrix/client/v3/sync", since=token, timeout=0, filter=limits)
    return {
        event["content"]["body"]
        for section in answer.get("rooms", {}).get("join", {}).values()
        for event in section["timeline"]["events"]
        if event["type"] == "m.room.message"
    }
