"""The JSON of the Bot API, field by field as the official server writes it (Client.cpp, ``class Client::Json…``)."""

from __future__ import annotations

from typing import Any

from .world import Chat, File, Message, User


def user(of: User) -> dict[str, Any]:
    """Client.cpp:459 JsonUser."""
    shape: dict[str, Any] = {"id": of.id, "is_bot": of.is_bot, "first_name": of.first_name}
    for name in ("last_name", "username", "language_code"):
        if value := getattr(of, name):
            shape[name] = value
    return shape


def me(of: User, *, topics: bool = False) -> dict[str, Any]:
    return {
        **user(of),
        "can_join_groups": True,
        "can_read_all_group_messages": True,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
        "has_topics_enabled": topics,
    }


def chat(of: Chat) -> dict[str, Any]:
    """Client.cpp:1188 JsonChat. Without all_members_are_administrators, which the documentation does not have."""
    shape: dict[str, Any] = {"id": of.id}
    if of.user is not None:
        shape["first_name"] = of.user.first_name
        if of.user.last_name:
            shape["last_name"] = of.user.last_name
    else:
        shape["title"] = of.title
    if of.username:
        shape["username"] = of.username
    if of.is_forum:
        shape["is_forum"] = True
    shape["type"] = of.type
    return shape


def full_chat(of: Chat) -> dict[str, Any]:
    shape = chat(of)
    shape |= {
        "accent_color_id": 2,
        "max_reaction_count": 11,
        "accepted_gift_types": {
            "unlimited_gifts": True,
            "limited_gifts": True,
            "unique_gifts": True,
            "premium_subscription": True,
            "gifts_from_channels": True,
        },
    }
    if of.type in ("group", "supergroup"):
        shape["permissions"] = {"can_send_messages": True, "can_send_photos": True, "can_send_documents": True}
    return shape


def file_ids(of: File) -> dict[str, Any]:
    """Client.cpp `json_store_file`."""
    shape: dict[str, Any] = {"file_id": of.file_id, "file_unique_id": of.unique_id}
    if of.size:
        shape["file_size"] = of.size
    return shape


def file(of: File) -> dict[str, Any]:
    return {**file_ids(of), "file_path": of.path}


def media(kind: str, of: File, *, seconds: int = 3, sticker: dict[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a message that bring a file along."""
    ids = file_ids(of)
    named = {"file_name": of.name, "mime_type": of.mime, **ids}
    if kind == "photo":
        small = {**ids, "file_id": of.file_id + "s", "file_unique_id": of.unique_id + "s", "file_size": 900}
        return {"photo": [{**small, "width": 90, "height": 67}, {**ids, "width": 1280, "height": 960}]}
    if kind == "animation":
        # It is sent as a document as well, for clients that know no animations (Client.cpp `messageAnimation`).
        return {"animation": {"duration": seconds, "width": 320, "height": 240, **named}, "document": named}
    if kind == "voice":
        return {"voice": {"duration": seconds, "mime_type": of.mime, **ids}}
    if kind == "video_note":
        return {"video_note": {"duration": seconds, "length": 240, **ids}}
    if kind == "audio":
        return {"audio": {"duration": seconds, **named, "title": "A tune", "performer": "A band"}}
    if kind == "video":
        return {"video": {"duration": seconds, "width": 640, "height": 480, **named}}
    if kind == "sticker":
        return {"sticker": {"width": 512, "height": 512, "type": "regular", **(sticker or {}), **ids}}
    return {"document": named}


def message(of: Message, *, with_reply: bool = True) -> dict[str, Any]:
    """Client.cpp `JsonMessage::store`."""
    shape: dict[str, Any] = {"message_id": of.id}
    if of.sender is not None:
        shape["from"] = user(of.sender)
    if of.sender_chat is not None:
        shape["sender_chat"] = chat(of.sender_chat)
    shape |= {"chat": chat(of.chat), "date": of.date}
    if of.edited:
        shape["edit_date"] = of.edited
    if of.thread:
        shape["message_thread_id"] = of.thread
        shape["is_topic_message"] = True
    if with_reply and of.reply_to is not None and not of.reply_to.deleted:
        shape["reply_to_message"] = message(of.reply_to, with_reply=False)
    if of.quote:
        shape["quote"] = {"text": of.quote, "position": 0, "is_manual": True}
    if of.album:
        shape["media_group_id"] = of.album
    shape |= of.media
    shape |= of.service
    words, marks = ("caption", "caption_entities") if of.media else ("text", "entities")
    if of.text:
        shape[words] = of.text
        if of.entities:
            shape[marks] = of.entities
    if of.link_preview:
        shape["link_preview_options"] = of.link_preview
    if of.markup:
        shape["reply_markup"] = of.markup
    return shape


def callback_query(query_id: str, by: User, of: Message, data: str) -> dict[str, Any]:
    """Client.cpp:4876 JsonCallbackQuery; a message that the server does not have any more is "inaccessible"."""
    shape = {"chat": chat(of.chat), "message_id": of.id, "date": 0} if of.deleted else message(of)
    return {"id": query_id, "from": user(by), "message": shape, "chat_instance": str(of.chat.id * 31), "data": data}
