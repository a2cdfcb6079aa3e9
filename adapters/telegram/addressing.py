"""Is a message of a group for this bot, and what of its text is only the address? Pure.

In a private chat everything is. In a group: everything, unless ``require_mention`` is set, as in hermes-agent; then
what mentions the bot, replies to it, is a command, matches a pattern, or comes in a chat of the free-response list.
"""

from __future__ import annotations

from telegram import Chat, Message, MessageEntity, User

from hermesd.adapters.telegram.options import TelegramOptions

_GROUPS = (Chat.GROUP, Chat.SUPERGROUP)
_BETWEEN = " ,:;-\u2013\u2014\n\t"  # a name and what is said to it


def is_addressed(message: Message, me: User, options: TelegramOptions) -> bool:
    """Whether the agent should see it. A command for another bot is never ours."""
    command = command_target(message)
    if command and command.casefold() != (me.username or "").casefold():
        return False
    if message.chat.type not in _GROUPS or not options.require_mention:
        return True
    if str(message.chat.id) in options.free_response_chats:
        return True
    text = message.text or message.caption or ""
    return (
        starts_with_command(message)
        or replied_to(message, me)
        or bool(mentions(message, me))
        or any(pattern.search(text) for pattern in options.mention_patterns)
    )


def is_general(chat_id: int, topic: int | None) -> bool:
    """Whether it is the topic that every forum has, and that is the chat itself. A message to it must not name it, or
    its thread is "not found"; that somebody types there must (docs.openclaw.ai/channels/telegram/threads-and-sessions).
    """
    return topic == 1 and chat_id < 0  # a private chat has none, and may have another topic with this number


def starts_with_command(message: Message) -> bool:
    return any(entity.type == MessageEntity.BOT_COMMAND and entity.offset == 0 for entity in _entities(message))


def command_target(message: Message) -> str:
    """``botname`` of a message that begins with ``/command@botname``, else ""."""
    for entity in _entities(message):
        if entity.type == MessageEntity.BOT_COMMAND and entity.offset == 0:
            return _words(message, entity).partition("@")[2]
    return ""


def mentions(message: Message, me: User) -> list[MessageEntity]:
    """Where the bot is named: by its username, or by its name as a link."""
    mine = f"@{me.username}".casefold()
    return [
        entity
        for entity in _entities(message)
        if (entity.type == MessageEntity.MENTION and _words(message, entity).casefold() == mine)
        or (entity.type == MessageEntity.TEXT_MENTION and entity.user is not None and entity.user.id == me.id)
    ]


def quoted(message: Message) -> Message | None:
    """The message that this one answers. In a topic, one that answers nothing seems to answer the topic's opening."""
    answered = message.reply_to_message
    if answered is None or answered.forum_topic_created is not None:
        return None
    if message.is_topic_message and answered.message_id == message.message_thread_id:
        return None
    return answered


def replied_to(message: Message, me: User) -> bool:
    answered = quoted(message)
    return answered is not None and answered.from_user is not None and answered.from_user.id == me.id


def without_address(message: Message, me: User) -> str:
    """The text without the bot's name at its beginning or end; in the middle the name is part of what is said."""
    units = _encoded(message.text or message.caption or "")
    start, end = 0, len(units) // 2
    named = mentions(message, me)
    for entity in named:
        if not _decoded(units[start * 2 : entity.offset * 2]).strip(_BETWEEN):
            start = entity.offset + entity.length
    for entity in reversed(named):
        if entity.offset >= start and not _decoded(units[(entity.offset + entity.length) * 2 : end * 2]).strip():
            end = entity.offset
    text = _decoded(units[start * 2 : end * 2])
    text = text.lstrip(_BETWEEN) if start else text
    return text.rstrip() if end < len(units) // 2 else text


def _entities(message: Message) -> tuple[MessageEntity, ...]:
    return message.entities or message.caption_entities


def _words(message: Message, entity: MessageEntity) -> str:
    units = _encoded(message.text or message.caption or "")
    return _decoded(units[entity.offset * 2 : (entity.offset + entity.length) * 2])


def _encoded(text: str) -> bytes:
    # JSON can hold half a surrogate pair, which no codec takes by itself.
    return text.encode("utf-16-le", "surrogatepass")


def _decoded(units: bytes) -> str:
    return units.decode("utf-16-le", "replace")
