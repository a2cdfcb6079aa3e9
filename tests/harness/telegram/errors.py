"""What the Bot API refuses, word for word, each with where its text comes from.

The official server puts "Bad Request: " before an error of its library and makes the first letter small, unless the
second one is a capital or "_" (Client.cpp `fail_query_with_error`, line 71).
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer with ``ok: false``."""

    def __init__(self, code: int, description: str, *, parameters: dict[str, Any] | None = None):
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters or {}


def bad_request(text: str) -> ApiError:
    if len(text) < 2 or not (text[1] == "_" or text[1].isupper()):
        text = text[0].lower() + text[1:]
    return ApiError(400, f"Bad Request: {text}")


def retry_after(seconds: int) -> ApiError:
    # Query.cpp:105 `set_retry_after_error`
    return ApiError(429, f"Too Many Requests: retry after {seconds}", parameters={"retry_after": seconds})


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized")  # Client.cpp:16291, a well-formed token that is not valid


def malformed_token() -> ApiError:
    return ApiError(401, "Unauthorized: invalid token specified")  # ClientManager.cpp:76


def no_such_method() -> ApiError:
    return ApiError(404, "Not Found: method not found")  # Client.cpp:12664


def other_poller() -> ApiError:
    # Client.cpp:16232 `abort_long_poll`
    return ApiError(
        409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    )


def ended_by_webhook() -> ApiError:
    return ApiError(409, "Conflict: terminated by setWebhook request")  # Client.cpp:16229


def webhook_is_active() -> ApiError:
    # Client.cpp:15703
    return ApiError(
        409,
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
    )


def chat_id_empty() -> ApiError:
    return bad_request("chat_id is empty")  # Client.cpp:8201


def chat_not_found() -> ApiError:
    return bad_request("chat not found")  # Client.cpp:6571


def upgraded(new_chat: int) -> ApiError:
    # Client.cpp:8155
    return ApiError(
        400,
        "Bad Request: group chat was upgraded to a supergroup chat",
        parameters={"migrate_to_chat_id": new_chat},
    )


def blocked() -> ApiError:
    return ApiError(403, "Forbidden: bot was blocked by the user")  # Client.cpp:127 for USER_IS_BLOCKED


def kicked(kind: str) -> ApiError:
    return ApiError(403, f"Forbidden: bot was kicked from the {kind} chat")  # Client.cpp:8162, 8174, 8176


def thread_not_found() -> ApiError:
    return bad_request("message thread not found")  # Client.cpp:8277 and 6818


def topic_closed() -> ApiError:
    return bad_request("TOPIC_CLOSED")  # the server's, passed on: td/telegram/DraftMessageManager.cpp:119


def no_forum() -> ApiError:
    return bad_request("The chat is not a forum")  # td/telegram/ForumTopicManager.cpp `is_forum`


def message_not_found(what: str) -> ApiError:
    return bad_request(f"message to {what} not found")  # Client.cpp:8420 `check_message`


def text_empty() -> ApiError:
    return bad_request("Message text is empty")  # Client.cpp:11401


def text_must_not_be_empty() -> ApiError:
    return bad_request("Text must be non-empty")  # td/telegram/MessageEntity.cpp:4519, spaces only


def text_too_long() -> ApiError:
    return bad_request("Message is too long")  # td/telegram/MessageContent.cpp:4759


def edited_text_too_long() -> ApiError:
    # An edit goes to the server as it is; its error is not reworded as that of a send is
    # (td/telegram/MessagesManager.cpp:27942).
    return bad_request("MESSAGE_TOO_LONG")


def caption_too_long() -> ApiError:
    return bad_request("Message caption is too long")  # td/telegram/MessageContent.cpp:5242


def not_modified() -> ApiError:
    # Client.cpp:105
    return bad_request(
        "message is not modified: specified new message content and reply markup are exactly the same as a current "
        "content and reply markup of the message"
    )


def cannot_be_edited() -> ApiError:
    return bad_request("Message can't be edited")  # td/telegram/MessagesManager.cpp:23386


def no_text_to_edit() -> ApiError:
    return bad_request("There is no text in the message to edit")  # td/telegram/MessagesManager.cpp:23393


def no_caption_to_edit() -> ApiError:
    return bad_request("There is no caption in the message to edit")  # td/telegram/MessagesManager.cpp:23687


def cannot_be_deleted() -> ApiError:
    return bad_request("Message can't be deleted")  # td/telegram/MessagesManager.cpp:8504


def entity_splits_symbol(position: int) -> ApiError:
    # td/telegram/MessageEntity.cpp:4170
    return bad_request(f"Entity begins in a middle of a UTF-16 symbol at byte offset {position}")


def entity_past_end(offset: int, end: int) -> ApiError:
    # td/telegram/MessageEntity.cpp:4259
    return bad_request(
        f"Entity beginning at UTF-16 offset {offset} ends after the end of the text at UTF-16 offset {end}"
    )


def bad_json(field: str) -> ApiError:
    return bad_request(f"Can't parse {field} JSON object")  # Client.cpp:10661 and its like


def unsupported_parse_mode() -> ApiError:
    return bad_request("Unsupported parse_mode")  # Client.cpp:11323


def button_data_invalid() -> ApiError:
    return bad_request("BUTTON_DATA_INVALID")  # the server's, for callback data of more than 64 bytes


def query_too_old() -> ApiError:
    # Client.cpp:148, for QUERY_ID_INVALID
    return bad_request("query is too old and response timeout expired or query ID is invalid")


def wrong_action() -> ApiError:
    return bad_request("Wrong parameter action in request")  # Client.cpp `process_send_chat_action_query`


def reaction_invalid() -> ApiError:
    return bad_request("REACTION_INVALID")  # the server's, for an emoji that is no reaction


def file_id_missing() -> ApiError:
    return bad_request("file_id not specified")  # Client.cpp:8366


def wrong_file_id() -> ApiError:
    return bad_request("wrong file_id or the file is temporarily unavailable")  # Client.cpp:8719


def file_too_big() -> ApiError:
    return bad_request("file is too big")  # Client.cpp:15817


def no_file(kind: str) -> ApiError:
    return bad_request(f"There is no {kind} in the request")  # Client.cpp `process_send_photo_query` and its like


def bad_image() -> ApiError:
    return bad_request("IMAGE_PROCESS_FAILED")  # the server's, for a photo that is no picture


def parameter_required(name: str) -> ApiError:
    return bad_request(f'Parameter "{name}" is required')  # Client.cpp `get_required_string_arg`


def bad_input_media(why: str) -> ApiError:
    return bad_request(f"Can't parse InputMedia: {why}")  # Client.cpp:11864


def album_too_long() -> ApiError:
    return bad_request("Too many messages to send as an album")  # td/telegram/MessageContent.cpp:5329


def album_empty() -> ApiError:
    return bad_request("There are no messages to send")  # td/telegram/MessageContent.cpp:5332


def album_mixed(kind: str) -> ApiError:
    # td/telegram/MessageContent.cpp:5349; the kind's name: MessageContentType.cpp `operator<<`
    return bad_request(f"{kind.capitalize()} can't be mixed with other media types")


def album_item_failed(number: int, error: ApiError) -> ApiError:
    # Client.cpp:12596 `on_message_send_failed`
    why = error.description.removeprefix("Bad Request: ")
    return bad_request(f'Failed to send message #{number} with the error message "{why}"')


def no_right_to_stickers() -> ApiError:
    return bad_request("Not enough rights to send stickers to the chat")  # td/telegram/MessageContent.cpp:6289


def voice_forbidden() -> ApiError:
    return bad_request("VOICE_MESSAGES_FORBIDDEN")  # the server's, for users who take no voice messages


def command_invalid() -> ApiError:
    return bad_request("BOT_COMMAND_INVALID")  # the server's, for a name that is not [a-z0-9_]{1,32}


def description_invalid() -> ApiError:
    return bad_request("BOT_COMMAND_DESCRIPTION_INVALID")  # the server's, for more than 256 characters


def bad_webhook(why: str) -> ApiError:
    return bad_request(f"bad webhook: {why}")  # Client.cpp:15961


def bad_secret() -> ApiError:
    return bad_request("secret token contains unallowed characters")  # Client.cpp:16023
