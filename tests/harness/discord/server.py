"""The server, in a thread of its own, and what a test does with it. Every method may be called from any thread."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from harness.loops import end_tasks

from .gateway import INVALID, RECONNECT, Gateway
from .rest import PREFIX, Fault, Rest
from .world import FORUM, Call, Interaction, Json, World

T = TypeVar("T")
WAIT_SECONDS = 20.0


class DiscordServer:
    """``with DiscordServer() as discord: discord.say(discord.direct("anna"), "hello")``."""

    def __init__(self, **settings: Any):
        self.world = World(**settings)
        self.gateway = Gateway(self.world)
        self.rest = Rest(self.world, self.gateway)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="discord server", daemon=True)
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    def __enter__(self) -> Self:
        return self.open()

    def open(self) -> Self:
        """Listen on a free port."""
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; once more does nothing."""
        if self._loop.is_closed():
            return
        self._do(self._stop())
        self._do(end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @asynccontextmanager
    async def here(self) -> AsyncIterator[Self]:
        """On the running loop, without a thread of its own: only what needs no thread can be done then."""
        self._loop.close()
        self._loop = asyncio.get_running_loop()
        await self._start()
        try:
            yield self
        finally:
            await self._stop()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/gateway", self.gateway.serve)
        app.router.add_route("*", PREFIX + "/{path:.*}", self.rest.serve)
        app.router.add_get("/attachments/{path:.*}", self.rest.content)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        assert self._runner.server is not None
        self._listening = await self._loop.create_server(self._runner.server, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        self.rest.base = f"http://127.0.0.1:{port}"
        self.gateway.address = f"ws://127.0.0.1:{port}/gateway"

    async def _stop(self) -> None:
        assert self._runner is not None
        assert self._listening is not None
        # asyncio loses a connection that is accepted in the round in which its server is closed.
        for listening in self._listening.sockets:
            self._loop.remove_reader(listening)
        await self._rounds()
        self._listening.close()
        await self.gateway.drop(1001)
        await self._runner.cleanup()
        await self._rounds()  # a transport that was closed ends in the loop's next rounds

    @staticmethod
    async def _rounds() -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    @property
    def extra(self) -> dict[str, Any]:
        """What goes into the adapter's ``extra``."""
        return {
            "base_url": self.rest.base + PREFIX, "gateway_url": self.gateway.address, "private_media": True
        }  # fmt: skip

    # ---- places and people -------------------------------------------------------------------------------------------

    def channel(self, name: str) -> str:
        return self.world.channel(name)

    def named(self, name: str) -> str:
        """The channel of this name."""
        return next(key for key, one in self.world.channels.items() if one.get("name") == name)

    def forum(self, name: str) -> str:
        return self.world.channel(name, type_=FORUM)

    def direct(self, user: str) -> str:
        return self.world.direct(user)

    def thread(self, parent: str, name: str) -> str:
        """Somebody starts a thread."""

        async def start() -> str:
            made = self.world.thread(parent, name)
            await self.gateway.dispatch("THREAD_CREATE", {**self.world.channels[made], "newly_created": True})
            return made

        return self._do(start())

    def user_id(self, name: str) -> str:
        return str(self.world.user(name)["id"])

    @property
    def mention(self) -> str:
        return f"<@{self.world.bot['id']}>"

    # ---- what people do ----------------------------------------------------------------------------------------------

    def say(
        self, channel: str, text: str, *, user: str = "anna", bot: bool = False, reply_to: str = "",
        files: tuple[tuple[str, bytes, str], ...] = (), **more: Any,
    ) -> str:  # fmt: skip
        """Somebody writes; the bot hears of it when it is connected. ``files``: name, content, MIME type."""

        async def write() -> str:
            attachments = [
                self.world.attach("", channel, name, content, mime, self.rest.base) for name, content, mime in files
            ]
            fields = dict(more)
            if reply_to:
                fields["message_reference"] = {"message_id": reply_to, "channel_id": channel, "type": 0}
            author = self.world.user(user, bot=bot)
            made = self.world.message(channel, author, text, attachments=attachments, **fields)
            await self.gateway.dispatch("MESSAGE_CREATE", self.world.event_of(made))
            return str(made["id"])

        return self._do(write())

    def repeat(self, channel: str, message: str) -> None:
        """The gateway tells of a message once more."""
        self._do(self.gateway.dispatch("MESSAGE_CREATE", self.world.event_of(self.world.get(channel, message))))

    def slash(self, channel: str, name: str, argument: str = "", *, user: str = "anna") -> Interaction:
        """Somebody gives a slash command."""
        options = [{"type": 3, "name": "argument", "value": argument}] if argument else []
        return self._interact(channel, 2, {"id": "1", "name": name, "type": 1, "options": options}, user)

    def press(self, channel: str, message: str, label: str, *, user: str = "anna") -> Interaction:
        """Somebody presses a button. Raises StopIteration when there is none with this label."""
        found = self.world.get(channel, message)
        button = next(one for row in found["components"] for one in row["components"] if one["label"] == label)
        data = {"custom_id": button["custom_id"], "component_type": 2}
        return self._interact(channel, 3, data, user, message=self.world.event_of(found))

    def _interact(self, channel: str, type_: int, data: Json, user: str, **more: Any) -> Interaction:
        async def interact() -> Interaction:
            world = self.world
            place = world.place(channel)
            made = Interaction(world.new_id(), secrets.token_hex(16), channel, time.monotonic())
            world.interactions[made.id] = made
            event = {
                "id": made.id, "application_id": world.application, "type": type_, "token": made.token, "version": 1,
                "data": data, "channel_id": channel, "channel": place, "locale": "en-US", "app_permissions": "0",
                "entitlements": [], "authorizing_integration_owners": {}, "attachment_size_limit": 10485760, **more,
            }  # fmt: skip
            person = world.user(user)
            if place.get("guild_id"):
                event |= {"guild_id": world.guild, "member": {**world.member(person), "permissions": world.permissions}}
            else:
                event["user"] = person
            await self.gateway.dispatch("INTERACTION_CREATE", event)
            return made

        return self._do(interact())

    # ---- what befalls the bot ----------------------------------------------------------------------------------------

    def fail(
        self, method: str, path: str, *, status: int = 0, count: int = 1, body: Json | None = None,
        headers: dict[str, str] | None = None, carried_out: bool = False, until: Callable[[], object] = lambda: True,
    ) -> None:  # fmt: skip
        """Let the next calls fail, as `harness.discord.rest.Fault` has it. ``path``: a regular expression."""
        self.rest.faults.append(
            Fault(method, re.compile(path), count, status, body, headers, carried_out, until=until)
        )  # fmt: skip

    def limit(self, path: str, seconds: float, *, everything: bool = False, count: int = 1, method: str = "") -> None:
        """Answer 429."""
        pattern = re.compile(path)
        self.rest.faults.append(self.limited(pattern, seconds, everything=everything, count=count, method=method))

    @staticmethod
    def limited(
        path: re.Pattern[str], seconds: float, *, everything: bool = False, count: int = 1, method: str = ""
    ) -> Fault:
        """Discord's documentation, Rate Limits: header, body, and Via, which discord.py looks for."""
        headers = {"Retry-After": f"{seconds:g}", "Via": "1.1 wire", "X-RateLimit-Scope": "user"}
        if everything:
            headers |= {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}
        body = {"message": "You are being rate limited.", "retry_after": seconds, "global": everything}
        return Fault(method, path, count, 429, body, headers)

    def drop(self, code: int = 4000) -> None:
        """Close the gateway's sockets with a code; the session can be resumed."""
        self._do(self.gateway.drop(code))

    def cut(self) -> None:
        """End the gateway's sockets without a word."""
        self._do(self.gateway.cut())

    def reconnect(self) -> None:
        """Ask for a new socket (op 7)."""
        self._do(self.gateway.send_op(RECONNECT, None))

    def invalidate(self) -> None:
        """End the sessions (op 9): nothing can be resumed."""
        self.gateway.forget_sessions()
        self._do(self.gateway.send_op(INVALID, False))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Nothing at all is done meanwhile."""
        over = threading.Event()
        self._loop.call_soon_threadsafe(over.wait)
        try:
            yield
        finally:
            over.set()

    # ---- what a test looks at ----------------------------------------------------------------------------------------

    def by_bot(self, channel: str | None = None) -> list[Json]:
        """What the bot has written, oldest first."""
        return self.world.by_bot(channel)

    def answers_to(self, message: str) -> list[Json]:
        """The bot's messages that quote this one."""
        found = self.world.by_bot()
        return [one for one in found if (one.get("message_reference") or {}).get("message_id") == message]

    def calls(self, method: str, path: str) -> list[Call]:
        pattern = re.compile(path)
        return [one for one in self.world.calls if one.method == method and pattern.search(one.path)]

    def wait(self, condition: Callable[[], T], seconds: float = WAIT_SECONDS, *, what: str = "") -> T:
        """What ``condition`` gives once it is true; for a state that can only be asked for."""
        until = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > until:
                raise AssertionError(f"not within {seconds} s: {what or condition}; {self._story()}")
            time.sleep(0.01)
        return found

    def wait_connected(self, seconds: float = WAIT_SECONDS) -> None:
        self.wait(lambda: self.gateway.connected, seconds, what="the bot is connected")

    def _story(self) -> str:
        calls = [f"{one.method} {one.path}" for one in self.world.calls[-15:]]
        return f"the last calls were {calls}, the bot said {[one['content'] for one in self.by_bot()[-5:]]}"
