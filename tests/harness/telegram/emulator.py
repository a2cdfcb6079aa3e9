"""A test's hands on the emulated Telegram: people write, send, press; things break; everything is on record.

The server has a thread and an event loop of its own, so that a test that waits for processes does not hold it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from harness.loops import end_tasks

from . import entities, shapes
from .errors import ApiError
from .faults import ANY, Fault
from .server import Call, Server
from .world import Chat, Message, User

TOKEN = "7318204455:AAF-emulated_token_of_35_characters"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
WAIT_SECONDS = 30.0

_T = TypeVar("_T")


class Emulator:
    """``with Emulator() as telegram:``; a bot finds it at ``telegram.base_url`` with ``telegram.token``."""

    def __init__(self, token: str = TOKEN, seed: int = 0):
        self.token = token
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="telegram-emulator", daemon=True)
        self.server: Server

    def __enter__(self) -> Self:
        self._thread.start()

        async def made() -> Server:
            server = Server(self.token, self._seed)
            await server.start()
            return server

        self.server = self._do(made())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._loop.is_closed():
            return
        self._do(self.server.stop())
        self._do(end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _T], seconds: float = WAIT_SECONDS) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def _on_loop(self, work: Callable[[], _T]) -> _T:
        async def run() -> _T:
            result = work()
            await self.server.wake()
            return result

        return self._do(run())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/bot"

    # People and places.

    def user(self, name: str = "Ann", username: str = "", *, user_id: int = 0) -> User:
        """A person who has started the bot."""

        def add() -> User:
            user = self.server.world.add_user(name, username, user_id=user_id)
            self.server.world.private(user)
            return user

        return self._on_loop(add)

    def private(self, user: User) -> Chat:
        return self.server.world.chats[user.id]

    def group(self, title: str = "A group", kind: str = "supergroup", *, forum: bool = False) -> Chat:
        return self._on_loop(lambda: self.server.world.add_group(title, kind, forum=forum))

    def topic(self, chat: Chat, name: str = "A topic") -> int:
        """Open a topic; returns its thread's id, which is that of the message that opened it."""

        def add() -> int:
            opened = self.server.world.post(
                chat, None, service={"forum_topic_created": {"name": name, "icon_color": 1}}
            )
            opened.sender = next(iter(self.server.world.users.values()), self.server.world.bot)
            opened.thread = opened.id
            chat.topics[opened.id] = name
            return opened.id

        return self._on_loop(add)

    def delete_topic(self, chat: Chat, thread: int) -> None:
        self._on_loop(lambda: chat.topics.pop(thread))

    def upgrade(self, chat: Chat) -> Chat:
        """A basic group becomes a supergroup, which has another id."""

        def upgrade() -> Chat:
            new = self.server.world.add_group(chat.title)
            chat.upgraded_to = new.id
            return new

        return self._on_loop(upgrade)

    # What people do.

    def say(
        self, text: str, user: User, chat: Chat | None = None, *,
        thread: int = 0, reply_to: int = 0, quote: str = "", mention: User | None = None, **more: Any,
    ) -> int:  # fmt: skip
        """A person writes; in private, unless there is a ``chat``. Returns the message's id."""
        marks = entities.find(text, [])
        if mention is not None:  # somebody without a username is mentioned by a name that is a link
            start = text.index(mention.first_name)
            marks.append({
                "offset": entities.utf16(text[:start]), "length": entities.utf16(mention.first_name),
                "type": "text_mention", "user": shapes.user(mention),
            })  # fmt: skip
        return self._post(user, chat, text=text, entities=marks, thread=thread, reply_to=reply_to, quote=quote, **more)

    def send(
        self, kind: str, data: bytes, user: User, chat: Chat | None = None, *, name: str = "", mime: str = "",
        caption: str = "", album: str = "", thread: int = 0, reply_to: int = 0, claims: int = 0,
        sticker: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """A person sends a file, of a kind as the Bot API calls it. ``claims``: the size that Telegram tells."""
        file = self._on_loop(lambda: self.server.world.add_file(data, name, mime, f"{kind}s"))
        file.size = claims or file.size
        file.sticker = sticker or {}
        return self._post(
            user, chat, text=caption, entities=entities.find(caption, []), album=album, thread=thread,
            reply_to=reply_to, media=shapes.media(kind, file, sticker=sticker), file=file,
        )  # fmt: skip

    def album(self, pictures: list[bytes], user: User, chat: Chat | None = None, *, caption: str = "") -> list[int]:
        """Several photos at once: each is a message, and the first one has the caption."""
        album = self._on_loop(self.server.world.new_album)
        return [
            self.send("photo", data, user, chat, album=album, caption=caption if number == 0 else "")
            for number, data in enumerate(pictures)
        ]

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What is said in it comes to the bot in one answer: however slow this machine is, nothing is late."""

        def hold(held: bool) -> None:
            self.server.held = held

        self._on_loop(lambda: hold(True))
        yield
        self._on_loop(lambda: hold(False))

    def sticker(
        self, user: User, *, emoji: str = "😀", animated: bool = False, video: bool = False, set_name: str = "Animals"
    ) -> int:
        about = {"emoji": emoji, "set_name": set_name, "is_animated": animated, "is_video": video}
        ending = "tgs" if animated else "webm" if video else "webp"
        data = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(32)
        return self.send("sticker", data, user, name=f"sticker.{ending}", sticker=about)

    def _post(self, user: User | None, chat: Chat | None, *, reply_to: int = 0, **content: Any) -> int:
        async def post() -> int:
            world = self.server.world
            place = chat or world.chats[user.id if user is not None else 0]
            if reply_to:
                content["reply_to"] = place.messages[reply_to]
            elif content.get("thread"):
                # In a topic, what answers nothing answers the message that opened it.
                content["reply_to"] = place.messages.get(content["thread"])
            message = world.post(place, user, **content)
            if place.bot_may_read:
                kind = "channel_post" if place.type == "channel" else "message"
                await self.server.add_update(kind, shapes.message(message))
            return message.id

        return self._do(post())

    def again(self, chat: Chat, message_id: int) -> int:
        """Telegram delivers a message once more. Returns the update's id."""
        message = chat.messages[message_id]
        return self._do(self.server.add_update("message", shapes.message(message)))

    def update_of(self, chat: Chat, message_id: int) -> int:
        """The id of the update that waits with this message; 0: it has been acknowledged."""

        def find() -> int:
            for update in self.server.updates:
                message = update.get("message") or {}
                if (message.get("message_id"), message.get("chat", {}).get("id")) == (message_id, chat.id):
                    return int(update["update_id"])
            return 0

        return self._on_loop(find)

    def press(self, user: User, chat: Chat, message_id: int, label: str) -> str:
        """Press the button that says ``label``; returns the query's id."""
        message = chat.messages[message_id]
        rows = (message.markup or {}).get("inline_keyboard", [])
        found = [button for row in rows for button in row if button["text"] == label]
        assert found, f"no button {label!r} under {message.text!r}: {rows}"
        return self.press_data(user, chat, message_id, found[0]["callback_data"])

    def press_data(self, user: User, chat: Chat, message_id: int, data: str) -> str:
        async def press() -> str:
            query = str(5_000_000_000_000_000 + len(self.server.methods.callbacks))
            self.server.methods.callbacks[query] = None
            message = chat.messages[message_id]
            await self.server.add_update("callback_query", shapes.callback_query(query, user, message, data))
            return query

        return self._do(press())

    def raw_update(self, update: dict[str, Any]) -> int:
        """Something that no client library expects."""

        async def add() -> int:
            update_id = self.server.updates.add_raw(update)
            await self.server.wake()
            return update_id

        return self._do(add())

    # What breaks.

    def fail(self, method: str, error: ApiError, count: int = 1) -> None:
        self._on_loop(lambda: self.server.faults.plan(Fault(method, count, error=error)))

    def cut(self, method: str = ANY, when: str = "before", count: int = 1) -> None:
        """The next calls break: "before" or "after" they are acted on, or are acted on and never answered ("hang")."""
        self._on_loop(lambda: self.server.faults.plan(Fault(method, count, cut=when)))

    def bad_gateway(self, method: str = ANY, status: int = 502, count: int = 1) -> None:
        self._on_loop(lambda: self.server.faults.plan(Fault(method, count, status=status)))

    def heal(self) -> None:
        self._on_loop(self.server.faults.clear)

    def go_dark(self) -> None:
        self._do(self.server.go_dark())

    def come_back(self) -> None:
        self._do(self.server.listen())

    # What is on record.

    def calls(self, method: str = "") -> list[Call]:
        return [call for call in list(self.server.calls) if not method or call.method == method.lower()]

    def sent(self, chat: Chat | None = None) -> list[Message]:
        """What the bot's messages say now, oldest first; deleted ones are gone."""
        chats = [chat] if chat is not None else list(self.server.world.chats.values())
        found = [
            message
            for one in chats
            for message in list(one.messages.values())
            if message.sender is self.server.world.bot and not message.deleted
        ]
        return sorted(found, key=lambda message: message.date)

    def answers(self, chat: Chat, message_id: int) -> list[Message]:
        """The bot's messages that quote this one."""
        return [message for message in self.sent(chat) if message.reply_to and message.reply_to.id == message_id]

    def waiting(self) -> int:
        """Updates that nobody has acknowledged."""
        return len(self.server.updates)

    def answered(self, query: str) -> dict[str, Any] | None:
        return self.server.methods.callbacks.get(query)

    @property
    def commands(self) -> list[dict[str, Any]]:
        return self.server.methods.commands

    def wait(self, condition: Callable[[], _T], seconds: float = WAIT_SECONDS, *, what: str = "") -> _T:
        """What ``condition`` gives, once that is true; asked again whenever something has happened here."""

        async def wait() -> Any:
            async with self.server.changed:
                return await asyncio.wait_for(self.server.changed.wait_for(condition), seconds)

        try:
            found: _T = self._do(wait(), seconds + 5)
        except TimeoutError:
            last = [(call.method, call.status, call.description) for call in self.calls()[-10:]]
            raise AssertionError(f"not within {seconds} s: {what or condition}; the last calls: {last}") from None
        return found

    async def wait_async(self, condition: Callable[[], _T], seconds: float = WAIT_SECONDS, *, what: str = "") -> _T:
        """The same for a test that has an event loop of its own to keep running."""
        return await asyncio.to_thread(self.wait, condition, seconds, what=what)
