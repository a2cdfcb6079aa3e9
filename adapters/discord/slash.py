"""Slash commands and buttons: what Discord calls interactions, each of which must be answered within 3 seconds.

So a command is acknowledged as soon as it is in the journal ("is thinking…"), and its answer takes that place when it
comes. The token that allows this is kept with the core's cursors, so that it outlives hermesd; it is good for 15
minutes, and what comes later goes into the channel.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

import discord
from discord.http import Route

from hermesd.adapters.contract import Cursor, Inbound, Outbound, Press, Receiver, Sent
from hermesd.adapters.errors import NotAccepted

from . import buttons, outbound
from .addressing import Chat, NotForUs
from .calls import NETWORK, translated
from .inbound import command_chat, command_text, from_command, place_of

log = logging.getLogger(__name__)

OPEN = "commands"  # the cursor that holds what is not answered yet
TOKEN_SECONDS = 14 * 60.0  # Discord's own limit is 15 minutes
ACKNOWLEDGE_SECONDS = 2.0  # of the 3 that Discord gives
INVALID_TOKEN = 50027  # Discord, with status 401: of the interaction, not of the bot
OPEN_LIMIT = 100
SEEN_LIMIT = 1000
EXPIRE_SECONDS = 30.0  # between two looks at what is open
NOT_HERE = "I do not answer in this channel."
NO_ANSWER = "hermesd cannot take this now: {}"

_EPHEMERAL = 1 << 6
_NOBODY: dict[str, Any] = {"parse": []}
_MESSAGE, _THINKING, _UPDATE_LATER = 4, 5, 6  # types of interaction responses


@dataclass(frozen=True, slots=True)
class _Open:
    application: int
    token: str
    until: float  # Unix seconds


class Slash:
    """The interactions of one bot. ``where`` decides whether a command is answered where it was given."""

    def __init__(self, platform: str, client: discord.Client, where: Callable[[discord.Interaction], Chat | NotForUs]):
        self._platform = platform
        self._client = client
        self._where = where
        self._receiver: Receiver | None = None
        self._open: dict[str, _Open] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: dict[str, None] = {}

    async def begin(self, receiver: Receiver) -> None:
        self._receiver = receiver
        try:
            kept = json.loads(await receiver.cursor(self._platform, OPEN) or "{}")
            self._open = {str(key): _Open(**value) for key, value in kept.items()}
        except (ValueError, TypeError):
            log.warning("the list of open Discord commands cannot be read and is begun anew")
        self._spawn(self._expire(), "discord commands expire")

    def offer(self, interaction: discord.Interaction) -> None:
        """One came in."""
        self._seen[str(interaction.id)] = None
        if len(self._seen) > SEEN_LIMIT:
            del self._seen[next(iter(self._seen))]
        if interaction.type is discord.InteractionType.application_command:
            self._spawn(self._command(interaction), f"discord command {interaction.id}")
        elif interaction.type is discord.InteractionType.component:
            self._spawn(self._press(interaction), f"discord button {interaction.id}")

    async def answer(self, interaction: str, message: Outbound) -> Sent | None:
        """Put an answer in the place of "is thinking…"; None where that place is not there (any more).

        Doing it twice is harmless. Raises what `Adapter.send` raises.
        """
        opened = self._open.get(interaction)
        if opened is None:
            return None
        if not self.takes(interaction, message):
            await self._forget(interaction, opened, delete=True)
            return None
        view = buttons.view_of(message.question)
        body = {
            "content": outbound.content(message),
            "components": view.to_components() if view is not None else [],
            "allowed_mentions": _NOBODY,
        }
        try:
            with translated("cannot answer the command"):
                data = await self._client.http.request(self._route("PATCH", opened), json=body)
        except Exception as error:
            cause = error.__cause__
            over = isinstance(cause, discord.HTTPException) and cause.code == INVALID_TOKEN
            if over or isinstance(cause, discord.NotFound):
                await self._forget(interaction, opened, delete=False)
                return None
            raise
        await self._forget(interaction, opened, delete=False)
        return Sent(str(data["id"]))

    def takes(self, interaction: str, message: Outbound) -> bool:
        """Whether `answer` would put this into a place of its own, where nothing is lost by doing it twice."""
        opened = self._open.get(interaction)
        return opened is not None and not message.files and opened.until >= time.time()

    async def found(self, interaction: str) -> None:
        """It has been answered, by an earlier try: what is in its place stays."""
        if (opened := self._open.get(interaction)) is not None:
            await self._forget(interaction, opened, delete=False)

    def is_command(self, message_id: str) -> bool:
        """Whether this is no message that could carry a reaction; after a restart only for what is still open."""
        return message_id in self._open or message_id in self._seen

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- commands ----------------------------------------------------------------------------------------------------

    async def _command(self, interaction: discord.Interaction) -> None:
        chat = self._where(interaction)
        if isinstance(chat, NotForUs):
            await self._say(interaction, NOT_HERE)
            return
        place = place_of(interaction.channel, interaction.guild)
        inbound = from_command(self._platform, interaction, chat, place, command_text(interaction.data))
        receiving = asyncio.create_task(self._receive(inbound), name=f"discord command {interaction.id} to the core")
        try:
            await asyncio.wait([receiving], timeout=ACKNOWLEDGE_SECONDS)
            if receiving.done() and (refusal := receiving.result()):
                await self._say(interaction, NO_ANSWER.format(refusal))
                return
            await self._acknowledge(interaction)
            if refusal := await receiving:
                await self.answer(str(interaction.id), Outbound("", NO_ANSWER.format(refusal)))
        finally:
            receiving.cancel()

    async def _receive(self, inbound: Inbound) -> str:
        """Why it was not taken, or ""."""
        assert self._receiver is not None
        try:
            await self._receiver.receive(inbound)
        except NotAccepted as refusal:
            return refusal.reason
        return ""

    async def _acknowledge(self, interaction: discord.Interaction) -> None:
        opened = _Open(interaction.application_id, interaction.token, time.time() + TOKEN_SECONDS)
        # Before Discord is told, for the answer may be faster than its response.
        self._open[str(interaction.id)] = opened
        while len(self._open) > OPEN_LIMIT:
            del self._open[next(iter(self._open))]
        await self._keep()
        if not await self._respond(interaction, {"type": _THINKING}):
            await self._forget(str(interaction.id), opened, delete=False)

    async def expire(self, now: float) -> None:
        """Take "is thinking…" away where nothing came: its user may not talk to the agent, or the agent takes long."""
        for key, opened in [*self._open.items()]:
            if opened.until < now:
                await self._forget(key, opened, delete=True)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            await self.expire(time.time())

    async def _forget(self, key: str, opened: _Open, *, delete: bool) -> None:
        if self._open.pop(key, None) is None:
            return
        if delete:
            try:
                await self._client.http.request(self._route("DELETE", opened))
            except (discord.DiscordException, *NETWORK) as error:
                log.debug("cannot take back the acknowledgement of command %s: %s", key, error)
        await self._keep()

    async def _keep(self) -> None:
        assert self._receiver is not None
        value = json.dumps({key: asdict(opened) for key, opened in self._open.items()})
        try:
            await self._receiver.keep_cursor(self._platform, Cursor(OPEN, value))
        except NotAccepted as refusal:
            log.warning("cannot keep the open Discord commands: %s", refusal)

    # ---- buttons -----------------------------------------------------------------------------------------------------

    async def _press(self, interaction: discord.Interaction) -> None:
        assert self._receiver is not None
        message = interaction.message
        found = buttons.pressed(interaction.data, list(message.components) if message is not None else [])
        if found is None or message is None:
            await self._respond(interaction, {"type": _UPDATE_LATER})
            return
        place = place_of(interaction.channel, interaction.guild)
        chat = command_chat(place)
        verdict = await self._receiver.pressed(
            Press(
                platform=self._platform,
                chat_id=chat.id,
                message_id=str(message.id),
                user_id=str(interaction.user.id),
                ask=found[0],
                choice=found[1],
                user_name=interaction.user.display_name,
                thread_id=chat.thread,
            )
        )
        if verdict.taken:
            await self._respond(interaction, {"type": _UPDATE_LATER})  # the core settles the question
        else:
            await self._say(interaction, verdict.text)

    # ---- Discord's side ----------------------------------------------------------------------------------------------

    async def _say(self, interaction: discord.Interaction, text: str) -> None:
        """A word that only the one who acts can see."""
        data = {"content": text[: outbound.MESSAGE_LIMIT], "flags": _EPHEMERAL, "allowed_mentions": _NOBODY}
        await self._respond(interaction, {"type": _MESSAGE, "data": data})

    async def _respond(self, interaction: discord.Interaction, body: dict[str, Any]) -> bool:
        route = Route(
            "POST", "/interactions/{webhook_id}/{webhook_token}/callback",
            webhook_id=interaction.id, webhook_token=interaction.token,
        )  # fmt: skip
        try:
            await self._client.http.request(route, json=body)
        except (discord.DiscordException, *NETWORK) as error:
            log.warning("cannot answer interaction %d of Discord: %s", interaction.id, error)
            return False
        return True

    @staticmethod
    def _route(method: str, opened: _Open) -> Route:
        return Route(
            method, "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
            webhook_id=opened.application, webhook_token=opened.token,
        )  # fmt: skip

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(self._watched(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _watched(work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:  # the task's edge
            log.exception("%s failed", name)
