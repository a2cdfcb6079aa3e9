"""The way in through a Discord bot. discord.py keeps the connection; what it cannot get back, the core decides on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import discord
from discord.gateway import KeepAliveHandler

from hermesd.adapters.contract import (
    AdapterSettings,
    Attachment,
    Capabilities,
    Cursor,
    Identity,
    Inbound,
    MenuEntry,
    Outbound,
    Rate,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, NotAccepted, Retry, StartLater, Unauthorized
from hermesd.adapters.media import download, kinds
from hermesd.adapters.standing import Standing
from hermesd.adapters.text import characters

from . import addressing, calls, identify, inbound, media, outbound
from .addressing import Chat, NotForUs
from .client import Client
from .intake import SEEN_SECONDS, Channel, Intake
from .options import Options, read
from .sending import Sender
from .slash import Slash
from .threads import Threads

log = logging.getLogger(__name__)

CONNECT_SECONDS = 20.0
BROKEN_SECONDS = 60.0
"""How long discord.py may try to get a broken connection back, by waits that double for ever; then the core does."""

GOODBYE_SECONDS = 1.5
IDENTIFIED = "identified"  # the cursor that says when the last session was begun
IDENTIFY_PATIENCE = 5.0  # seconds that a start waits for its turn


class DiscordAdapter:
    """Platform ``discord``. Raises `AdapterError` for settings that it refuses."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._options: Options = read(settings)
        self.client = Client(
            self._options,
            logged_in=self._logged_in,
            before_identify=self._before_identify,
            connect=self._connected,
            ready=self._ready,
            resumed=self._resumed,
            disconnect=self._disconnected,
            message=self._message,
            interaction=self._interaction,
            guild_available=self._guild_came,
            guild_join=self._guild_came,
            socket_raw_receive=self._alive,
            socket_event_type=self._event_came,
        )
        self._threads = Threads(self.name, self.client)
        self.slash = Slash(self.name, self.client, self._where)
        self._intake = Intake(self.name, self._judge)
        self._sender = Sender(self.client, self._threads, self.slash, self._intake.is_born_here)
        self._receiver: Receiver | None = None
        self._run: asyncio.Task[None] | None = None
        self._started = self._stopping = False
        self._up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._giving_up: asyncio.TimerHandle | None = None
        self._allowance = identify.Allowance(0, 0, 0.0)
        self._standing = Standing()
        self._reading_due = False

    # ---- the required six --------------------------------------------------------------------------------------------

    async def start(self, receiver: Receiver) -> None:
        self._standing.become("connecting")
        await self.begin(receiver)
        self._run = asyncio.create_task(self._connection(), name="discord connection")
        up = asyncio.create_task(self._up.wait(), name="discord is up")
        try:
            await asyncio.wait([self._run, up], timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._up.is_set():
            self._started = True
            return
        if self._run.done():
            error = calls.ending(self._run.exception() or StartLater("Discord closed the connection"))  # type: ignore[arg-type]
        else:
            error = StartLater(f"cannot connect to Discord within {CONNECT_SECONDS:.0f} s")
        self._standing.become(_word(error), str(error), error.fix)
        raise error

    async def begin(self, receiver: Receiver) -> None:
        """Everything of `start` but the connection."""
        self._receiver = receiver
        self._intake.begin(receiver)
        await self._threads.begin(receiver)
        await self.slash.begin(receiver)
        self._spawn(self._note_seen(), "discord note how far")

    async def stop(self) -> None:
        self._stopping = True
        self._cancel_giving_up()
        if self._receiver is not None:
            await self._intake.note_seen()
        await self.slash.stop()
        await self._threads.stop()
        await self._intake.stop()
        tasks = [*self._tasks, *([self._run] if self._run is not None else [])]
        if self._run is not None and not self.client.is_closed():
            await self._say_goodbye()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stop_heartbeats()
        self._standing.become("stopped")

    def _stop_heartbeats(self) -> None:
        """discord.py stops the thread of a socket when it is closed by its own hand, not when the connection had broken
        (`discord/gateway.py`, `KeepAliveHandler`): that one would go on until its next beat fails.
        """
        for thread in threading.enumerate():
            if isinstance(thread, KeepAliveHandler) and thread.ws._connection is self.client._connection:
                thread.stop()

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self.client.close()
        except TimeoutError:
            log.info("Discord did not answer that we leave")
            await self.client.http.close()

    async def send(self, target: Target, message: Outbound) -> Sent:
        self._check_up("send")
        return await self._sender.send(target, message)

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(
            max_length=outbound.MESSAGE_LIMIT,
            unit=characters,
            markdown=True,
            max_caption=outbound.MESSAGE_LIMIT,
            bare=frozenset({kinds.VOICE}),
            max_file_bytes=self._file_limit(target),
            albums=outbound.ALBUMS,
            # Discord knows a nonce for some minutes only: `find` is for what is older.
            exact_resends=False,
            # Discord's own: 50 calls a second for a bot, and 5 messages in 5 seconds for a channel.
            overall_rate=Rate(45, 1.0),
            chat_rate=Rate(5, 5.0),
            bursts=self._options.bursts,
        )

    def state(self) -> State:
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        user = self.client.user
        latency = self.client.latency
        return {
            "account": str(user) if user is not None else "",
            "id": str(user.id) if user is not None else "",
            "servers": len(self.client.guilds),
            "latency_ms": round(latency * 1000) if 0 < latency < 600 else None,
            "sessions_left_today": self._allowance.remaining if self._allowance.total else None,
            "joined_threads": len(self._threads.joined),
            "messages": self._intake.offered,
            "waiting": self._intake.waiting,
            "held_up": self._intake.held_up,
            "reading_on": self._intake.reading_on,
            "faults": [*self._intake.unread.values()],
            "warnings": [*self._warnings()],
        }

    def _warnings(self) -> Iterable[str]:
        """Sentences for ``hermesctl doctor``."""
        options, left = self._options, self._allowance
        if not options.message_content:
            yield "discord hears only direct messages and what mentions it, for message_content is false"
        if left.total and left.remaining < left.total // 4:
            yield f"discord has begun {left.total - left.remaining} of the {left.total} sessions of this day"
        if self._intake.reading_on:
            return  # not all channels are known yet
        for key, channels in (
            ("allowed_channels", options.allowed_channels), ("ignored_channels", options.ignored_channels),
            ("free_response_channels", options.free_channels), ("no_thread_channels", options.no_thread_channels),
        ):  # fmt: skip
            for channel in sorted(channels):
                if not channel.isdecimal() or self.client.get_channel(int(channel)) is None:
                    yield f"discord does not see channel {channel}, which {key} names (archived threads are not seen)"

    # ---- what else it can --------------------------------------------------------------------------------------------

    def identity(self) -> Identity | None:
        return Identity("discord-bot-token", self._options.token)

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        self._check_up("edit")
        return await self._sender.edit(target, message_id, message)

    async def find(
        self, target: Target, forms: Sequence[Outbound], *, since: float, others: Collection[str]
    ) -> str | None:
        self._check_up("look for an earlier try")
        return await self._sender.find(target, forms, since, others)

    async def delete(self, target: Target, message_id: str) -> None:
        self._check_up("delete")
        await self._sender.delete(target, message_id)

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        self._check_up("settle the question")
        await self._sender.settle(target, message_id, text)

    async def typing(self, target: Target) -> None:
        self._check_up("show that we write")
        await self._sender.typing(target)

    async def react(self, target: Target, sign: str) -> None:
        if not self._options.reactions or not target.reply_to.isdecimal():
            return
        self._check_up("react")
        await self._sender.react(target, sign)

    async def show_menu(self, entries: Sequence[MenuEntry]) -> None:
        application = self.client.application_id
        self._check_up("register the commands")
        assert application is not None
        wanted: list[Any] = outbound.commands(entries)
        with calls.translated("cannot register the commands"):
            registered: list[Any] = await self.client.http.get_global_commands(application)
            if not outbound.same_commands(wanted, registered):
                await self.client.http.bulk_upsert_global_commands(application, wanted)
                log.info("registered %d slash commands with Discord", len(wanted))

    async def fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        may = media.anywhere if self._options.private_media else download.is_public
        proxy = self._options.proxy
        return await media.fetch(file, directory, limit, message=self._fetch_message, may=may, proxy=proxy)

    async def _fetch_message(self, channel: int, message: int) -> discord.Message:
        return await self.client.get_partial_messageable(channel).fetch_message(message)

    def _file_limit(self, target: Target) -> int:
        channel = self.client.get_channel(int(target.chat_id)) if target.chat_id.isdecimal() else None
        guild = getattr(channel, "guild", None)
        return guild.filesize_limit if guild is not None else outbound.FILE_LIMIT

    def _check_up(self, what: str) -> None:
        if self._stopping or not self._up.is_set():
            raise Retry(f"cannot {what}: Discord is not connected", after=2.0)

    # ---- the connection ----------------------------------------------------------------------------------------------

    async def _connection(self) -> None:
        """For as long as discord.py can keep it; what it ends with is the core's to decide."""
        error: Exception = StartLater("Discord closed the connection")
        try:
            async with self.client:
                await self.client.start(self._options.token)
        except Exception as ended:  # the task's edge: `calls.ending` knows what it may be
            error = ended
            if not isinstance(ended, (AdapterError, discord.DiscordException, *calls.NETWORK)):
                log.exception("the connection to Discord failed")
        if self._stopping:
            return
        if not self._started:
            raise error
        self._lose(calls.ending(error))

    def _lose(self, error: AdapterError) -> None:
        if self._receiver is None or self._stopping:
            return
        self._standing.become(_word(error), str(error), error.fix)
        self._receiver.lost(self.name, error)

    async def _logged_in(self) -> None:
        """The token is right; before a session is begun, whether that is wise."""
        if self._run is None:
            return  # only `begin`
        application = self.client.application
        if self._options.message_content and application is not None:
            flags = application.flags
            if not (flags.gateway_message_content or flags.gateway_message_content_limited):
                raise calls.intents_missing("Message Content Intent is off")
        _, _, limit = await self.client.http.get_bot_gateway()
        self._allowance = identify.Allowance(limit["total"], limit["remaining"], limit["reset_after"] / 1000)

    async def _before_identify(self) -> None:
        if self._receiver is None:
            return
        now = time.time()
        last = float(await self._receiver.cursor(self.name, IDENTIFIED) or 0)
        wait = identify.wait_before(self._allowance, last, now) if self._allowance.total else 0.0
        if wait > IDENTIFY_PATIENCE:
            raise StartLater(
                f"cannot begin a session with Discord for another {wait:.0f} s: {self._allowance.remaining} of "
                f"{self._allowance.total} are left for the next {self._allowance.reset_after / 3600:.1f} h",
                fix="find out why hermesd starts so often: hermesctl logs",
            )
        await asyncio.sleep(wait)
        self._allowance = self._allowance.spent_one()
        try:
            await self._receiver.keep_cursor(self.name, Cursor(IDENTIFIED, f"{time.time():.0f}"))
        except NotAccepted as refusal:
            log.debug("cannot note the session's beginning: %s", refusal)

    def _connected(self) -> None:
        """A new session: what came since the last one is not sent again."""
        self._intake.hold()
        self._reading_due = True
        self._is_up()

    def _resumed(self) -> None:
        log.info("the connection to Discord is back; nothing was missed")
        self._is_up()

    def _is_up(self) -> None:
        self._cancel_giving_up()
        self._up.set()
        self._standing.become("online", str(self.client.user or ""))

    def _disconnected(self) -> None:
        if self._stopping or self._standing.word != "online":
            return
        self._standing.become("backing_off", "the connection broke; trying to resume it")
        self._giving_up = asyncio.get_running_loop().call_later(BROKEN_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._lose(StartLater(f"the connection to Discord was not back after {BROKEN_SECONDS:.0f} s"))

    def _cancel_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _alive(self, _: object) -> None:
        self._standing.alive()

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def _event_came(self, _: str) -> None:
        if self._reading_due:
            # discord.py takes 2 s of silence for the end of the list of servers; whoever has them all need not wait.
            asyncio.get_running_loop().call_soon(self._read_on_if_complete)

    def _read_on_if_complete(self) -> None:
        if not any(guild.unavailable for guild in self.client.guilds):
            self._ready()

    def _ready(self) -> None:
        """All servers are known that will be."""
        if self._reading_due:
            self._reading_due = False
            self._spawn(self._read_on(), "discord read on")

    async def _read_on(self) -> None:
        assert self._receiver is not None
        kept = await self._receiver.cursors(self.name)
        direct = [int(name[3:]) for name in kept if name.startswith("dm:") and name[3:].isdecimal()]
        channels = [self._direct(channel) for channel in direct]
        for guild in self.client.guilds:
            channels += [] if guild.unavailable else self._channels(guild)
        await self._intake.read_on(channels)

    def _guild_came(self, guild: discord.Guild) -> None:
        """After `_ready`: a server that was unavailable, or that we were invited to."""
        if self.client.is_ready():
            self._spawn(self._intake.read_on(list(self._channels(guild)), whole=False), "discord read on in a server")

    def _direct(self, channel: int) -> Channel:
        direct = self.client.get_partial_messageable(channel, type=discord.ChannelType.private)
        return Channel(channel, "direct messages", f"dm:{channel}", None, _history(direct))

    def _channels(self, guild: discord.Guild) -> Iterable[Channel]:
        channels: tuple[Any, ...] = (*guild.text_channels, *guild.voice_channels, *guild.threads)
        for channel in channels:
            place = inbound.place_of(channel, guild)
            allowed, ignored = self._options.allowed_channels, self._options.ignored_channels
            if (not allowed or place.names & allowed) and not place.names & ignored:
                yield Channel(
                    channel.id, channel.name, str(channel.id), channel.last_message_id or 0, _history(channel)
                )

    def _message(self, message: discord.Message) -> None:
        self._intake.offer(message)

    def _interaction(self, interaction: discord.Interaction) -> None:
        self.slash.offer(interaction)

    async def _judge(self, message: discord.Message) -> Inbound | None:
        me = self.client.user
        if me is None or not inbound.is_speech(message):
            return None
        channel: Any = message.channel
        if isinstance(channel, discord.PartialMessageable) and channel.guild_id is not None:
            with calls.translated("cannot find out where a message was written"):
                channel = await self.client.fetch_channel(channel.id)
        place = inbound.place_of(channel, message.guild)
        chat = addressing.address(
            self._options, place, inbound.author_of(message), str(message.id),
            me=str(me.id), mentioned=inbound.mentions(message, me.id), joined=self._threads.joined,
        )  # fmt: skip
        if isinstance(chat, NotForUs):
            log.debug("message %d of Discord is not for us: %s", message.id, chat.why)
            return None
        made = inbound.from_message(self.name, message, chat, place, me.id)
        if made is not None and chat.thread == str(message.id):
            self._threads.name(chat.thread, made.text)
        return made

    def _where(self, interaction: discord.Interaction) -> Chat | NotForUs:
        """A command names us by being one, and starts no thread."""
        if interaction.channel is None:
            return NotForUs("Discord does not say where it was given")
        place = inbound.place_of(interaction.channel, interaction.guild)
        me = self.client.user
        chat = addressing.address(
            self._options, place, addressing.Author(str(interaction.user.id)), str(interaction.id),
            me=str(me.id) if me is not None else "", mentioned=True, joined=self._threads.joined,
        )  # fmt: skip
        return chat if isinstance(chat, NotForUs) else inbound.command_chat(place)

    async def _note_seen(self) -> None:
        while True:
            await asyncio.sleep(SEEN_SECONDS)
            await self._intake.note_seen()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(_watched(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _history(channel: Any) -> Any:
    def history(after: int, limit: int) -> AsyncIterator[discord.Message]:
        found: AsyncIterator[discord.Message] = channel.history(
            limit=limit, after=discord.Object(after), oldest_first=False
        )
        return found

    return history


def _word(error: AdapterError) -> str:
    return "refused" if isinstance(error, Unauthorized) else "backing_off"


async def _watched(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:  # the task's edge
        log.exception("%s failed", name)
