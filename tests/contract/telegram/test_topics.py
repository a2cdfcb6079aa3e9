"""Topics of private chats that the configuration asks for, and the general topic of forums."""

from __future__ import annotations

from harness.telegram.core import Core
from harness.telegram.emulator import Emulator

from hermesd.adapters.contract import Outbound, Target

from .conftest import Connect


async def test_topics_are_made_once_and_are_conversations(telegram: Emulator, connect: Connect, core: Core) -> None:
    telegram.server.world.topics_enabled = True
    ann = telegram.user("Ann")
    chat = telegram.private(ann)
    wanted = [
        {"chat_id": ann.id, "topics": [{"name": "Research", "icon_color": 7322096}, {"name": "Known", "thread_id": 9}]}
    ]
    first = await connect(dm_topics=wanted)
    assert first._topics_task is not None
    await first._topics_task
    assert list(chat.topics.values()) == ["Research"]
    [thread] = chat.topics
    telegram.say("a question", ann, thread=thread)
    [inbound] = await core.until(lambda: core.inbounds)
    assert (inbound.chat_type, inbound.thread_id) == ("dm", str(thread))
    await first.send(Target("telegram", inbound.chat_id, inbound.thread_id), Outbound("k", "an answer"))
    assert telegram.sent(chat)[-1].thread == thread
    await first.stop()
    second = await connect(dm_topics=wanted)
    assert second._topics_task is not None
    await second._topics_task
    assert second.describe()["warnings"] == []
    assert len(telegram.calls("createForumTopic")) == 1


async def test_a_topic_that_cannot_be_made_is_told_to_doctor(telegram: Emulator, connect: Connect) -> None:
    ann = telegram.user("Ann")
    adapter = await connect(dm_topics=[{"chat_id": ann.id, "topics": [{"name": "Research"}]}])
    assert adapter._topics_task is not None
    await adapter._topics_task
    [warning] = adapter.describe()["warnings"]
    assert "Research" in warning
    assert "not a forum" in warning
    assert adapter.state().word == "online"


async def test_the_general_topic_is_the_chat_itself(telegram: Emulator, connect: Connect, core: Core) -> None:
    ann, forum = telegram.user("Ann"), telegram.group("Forum", forum=True)
    adapter = await connect()
    telegram.say("in general", ann, forum)
    telegram.say("in general, said so", ann, forum, thread=1)
    heard = await core.until(lambda: len(core.inbounds) == 2 and core.inbounds)
    assert [inbound.thread_id for inbound in heard] == ["", ""]
    general = Target("telegram", str(forum.id), "1")
    await adapter.send(general, Outbound("k", "an answer"))
    assert [call.status for call in telegram.calls("sendMessage")] == [200]
    await adapter.typing(general)
    assert forum.typing[-1][2] == 1
