"""The way in over Telegram's Bot API: by long polling, or by a webhook where its address is configured.

An update is acknowledged only after its message is on disk. A send that was cut is `Uncertain`, for Telegram does not
know a message that comes twice; an edit may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from telegram import BotCommand, Message, ReactionTypeEmoji, Update, User
from telegram.error import TelegramError
from telegram.request import HTTPXRequest

from hermesd.adapters.contract import (
    AdapterSettings,
    Attachment,
    Capabilities,
    Identity,
    Inbound,
    MenuEntry,
    Outbound,
    Press,
    Pressed,
    Rate,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import AdapterError, Conflict, Gone, NotAccepted, Rejected, Retry
from hermesd.adapters.media import kinds
from hermesd.adapters.standing import Standing
from hermesd.adapters.telegram import calls, inbound, media, menu, network, options, outbound, topics
from hermesd.adapters.telegram.polling import Poller, UpdatesBot
from hermesd.adapters.telegram.webhook import WebhookServer
from hermesd.adapters.text import utf16_units

log = logging.getLogger("hermesd.adapters.telegram")


OVERALL = Rate(30, 1.0)
IN_PRIVATE = Rate(5, 5.0)  # one a second, with room for a burst
IN_GROUPS = Rate(20, 60.0)
"""core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this"""

WATCH_SECONDS = 60.0
"""How often a webhook that nothing comes in by is asked for."""

TOAST_LIMIT = 200  # characters: core.telegram.org/bots/api#answercallbackquery

# Telegram allows a bot only some signs: core.telegram.org/bots/api#reactiontypeemoji
_REACTIONS = {"✅": "👍", "❌": "👎", "✔️": "👍", "✖️": "👎"}

# The Bot API's addresses hold the token: httpx logs each at INFO, telegram/_bot.py:342 at DEBUG, and all that is said.
_TELLTALES = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "telegram": logging.INFO}


class TelegramAdapter:
    """Platform ``telegram``. Raises `AdapterError` for settings that it refuses."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._options = options.read(settings)
        self._receiver: Receiver | None = None
        self._bot: UpdatesBot | None = None
        self._me: User | None = None
        self._server: WebhookServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._topics_task: asyncio.Task[None] | None = None
        self._warnings: tuple[str, ...] = ()
        self._moved: dict[int, int] = {}  # groups that became supergroups, which have another id
        self._standing = Standing()
        for name, level in _TELLTALES.items():
            logging.getLogger(name).setLevel(level)

    # The required six.

    async def start(self, receiver: Receiver) -> None:
        self._standing.become("connecting")
        bot = self._make_bot()
        try:
            await bot.initialize()
            self._me = bot.bot
            self._bot, self._receiver = bot, receiver
            self._alive()
            await (self._listen(bot) if self._options.webhook else self._poll(bot))
        except TelegramError as error:
            await self._disconnect(bot)
            trouble = calls.start_error(calls.failure(error, self._options.token))
            self._standing.become("refused", str(trouble), fix=trouble.fix)
            raise trouble from None  # the cause's text may hold the token
        except BaseException:
            await self._disconnect(bot)
            self._standing.become("refused")
            raise
        self._standing.become("online", f"@{self._me.username}")
        if self._options.topics:
            self._topics_task = asyncio.create_task(self._make_topics(bot, receiver), name="telegram-topics")

    async def _make_topics(self, bot: UpdatesBot, receiver: Receiver) -> None:
        try:
            wanted = self._options.topics
            self._warnings = await topics.make(bot, wanted, receiver, self.name, self._options.token)
        except Exception:  # the task's edge; messages come and go without them
            log.exception("making the topics of Telegram's private chats failed")

    def _make_bot(self) -> UpdatesBot:
        chosen, proxy = self._options, self._options.proxy or None

        def own(connections: int) -> dict[str, Any]:
            return {"transport": network.transport(chosen.ways, connections)} if chosen.ways is not None else {}

        return UpdatesBot(
            chosen.token,
            base_url=chosen.base_url,
            base_file_url=chosen.base_file_url,
            request=HTTPXRequest(
                connection_pool_size=64, connect_timeout=10.0, read_timeout=20.0, write_timeout=20.0, pool_timeout=10.0,
                media_write_timeout=120.0, proxy=proxy, httpx_kwargs=own(64),
            ),
            get_updates_request=HTTPXRequest(
                connection_pool_size=1, connect_timeout=10.0, proxy=proxy, httpx_kwargs=own(1)
            ),
        )  # fmt: skip

    async def _poll(self, bot: UpdatesBot) -> None:
        # What waits there is what people wrote while hermesd was down: it is never dropped.
        await bot.delete_webhook(drop_pending_updates=False)
        poller = Poller(
            bot,
            self._take,
            alive=self._alive,
            troubled=lambda why: self._standing.become("backing_off", why),
            lost=self._lost,
        )
        self._task = asyncio.create_task(self._run(poller.run), name="telegram-poll")

    async def _listen(self, bot: UpdatesBot) -> None:
        webhook = self._options.webhook
        assert webhook is not None
        self._server = WebhookServer(webhook, self._take, self._alive)
        await self._server.start()
        await bot.set_webhook(
            webhook.url,
            secret_token=webhook.secret,
            allowed_updates=list(inbound.ALLOWED_UPDATES),
            drop_pending_updates=False,
        )
        self._task = asyncio.create_task(self._run(lambda: self._watch(bot, webhook.url)), name="telegram-watch")

    async def _watch(self, bot: UpdatesBot, url: str) -> None:
        """A webhook is silent when nobody writes, and also when somebody has taken it away."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                info = await bot.get_webhook_info()
            except TelegramError as error:
                found = calls.failure(error, self._options.token)
                if found.kind == "token":
                    self._lost(calls.start_error(found))
                    return
                self._standing.become("backing_off", found.text)
                continue
            if info.url != url:
                self._lost(Conflict("cannot receive from Telegram: another webhook is set", fix=calls.ONE_POLLER))
                return
            self._alive()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # the core must hear of it, whatever it is
            log.exception("receiving from Telegram failed")
            self._lost(AdapterError(f"cannot receive from Telegram: {type(error).__name__}: {error}"))

    async def stop(self) -> None:
        self._receiver = None
        self._standing.become("stopped")
        bot, self._bot = self._bot, None
        if bot is not None:
            await self._disconnect(bot)

    async def _disconnect(self, bot: UpdatesBot) -> None:
        """Nothing is acknowledged on the way out: what is on disk comes again, and is known then."""
        self._receiver, self._bot = None, None
        tasks, self._task, self._topics_task = (self._task, self._topics_task), None, None
        for task in tasks:
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        with contextlib.suppress(TelegramError):
            await bot.shutdown()

    async def send(self, target: Target, message: Outbound) -> Sent:
        bot = self._connected("send to Telegram")
        trial = outbound.plan(target, message, self._chat(target))
        if trial.field == "sticker" and message.text.strip():
            # Nothing stands beside a sticker: what goes with it goes before it.
            await self.send(target, replace(message, files=(), question=None))
            trial = replace(trial, message=replace(message, text="", quotes=False))
        while True:
            try:
                first, *others = await self._send(bot, trial)
            except TelegramError as error:
                found = calls.failure(error, self._options.token)
                if found.kind == "moved":
                    self._moved[trial.chat_id] = found.chat_id
                another = outbound.relent(trial, found)
                if another is None:
                    raise calls.adapter_error(found, "send to Telegram") from None
                log.info(
                    "Telegram refused a message to %s as it was (%s); trying otherwise", target.chat_id, found.text
                )
                trial = another
            else:
                return Sent(str(first.message_id), tuple(str(one.message_id) for one in others))

    async def _send(self, bot: UpdatesBot, trial: outbound.Plan) -> Sequence[Message]:
        """One call; returns the messages that it made."""
        files = trial.message.files
        if trial.file is None:
            return [await bot.send_message(**outbound.text_arguments(trial, self._options))]
        with contextlib.ExitStack() as opened:
            uploads = [
                opened.enter_context(media.upload(file, outbound.UPLOAD_LIMIT, attach=len(files) > 1)) for file in files
            ]
            if len(files) > 1:
                return await bot.send_media_group(**outbound.album_arguments(trial, uploads))
            arguments = outbound.sticker_arguments if trial.field == "sticker" else outbound.file_arguments
            send = getattr(bot, f"send_{trial.field}")
            return [await send(**{trial.field: uploads[0]}, **arguments(trial))]

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(
            max_length=outbound.TEXT_LIMIT,
            unit=utf16_units,
            markdown=True,
            max_caption=outbound.CAPTION_LIMIT,
            bare=frozenset({kinds.STICKER}),
            max_file_bytes=outbound.UPLOAD_LIMIT,
            albums=outbound.ALBUMS,
            overall_rate=OVERALL,
            chat_rate=IN_GROUPS if target.chat_id.startswith("-") else IN_PRIVATE,
            bursts=self._options.bursts,
        )

    def state(self) -> State:
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "mode": "webhook" if self._options.webhook else "polling",
            "account": f"@{self._me.username}" if self._me else "",
            "id": str(self._me.id) if self._me else "",
            "server": self._options.base_url.removesuffix("/bot"),
            "require_mention": self._options.require_mention,
            "warnings": list(self._warnings),
        }
        if self._options.ways is not None and self._options.ways.chosen:
            described["reached_at"] = self._options.ways.chosen
        if self._options.webhook:
            described |= {"address": self._options.webhook.url, "port": self._server.port if self._server else 0}
        return described

    # What else it can.

    def identity(self) -> Identity | None:
        return Identity("telegram-bot-token", self._options.token)

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        bot = self._connected("edit a message of Telegram's")
        chat, number = self._chat(target), _message_number(message_id)
        if not message.text.strip():
            raise Rejected("cannot edit a message of Telegram's to say nothing")
        formatted = True
        while True:
            arguments = outbound.edit_arguments(chat, number, message, formatted=formatted)
            try:
                await self._edit(bot, arguments)
            except TelegramError as error:
                found = calls.failure(error, self._options.token)
                if found.is_not_modified:
                    break
                if found.entities_are_refused and formatted:
                    formatted = False
                    continue
                raise calls.adapter_error(found, "edit a message of Telegram's", repeatable=True) from None
            break
        return Sent(message_id)

    async def _edit(self, bot: UpdatesBot, arguments: dict[str, Any]) -> None:
        preview = outbound.link_preview(self._options)
        try:
            await bot.edit_message_text(**arguments, link_preview_options=preview)
        except TelegramError as error:
            if not calls.failure(error).says("no text in the message to edit"):
                raise
            arguments["caption"] = arguments.pop("text")
            arguments["caption_entities"] = arguments.pop("entities")
            await bot.edit_message_caption(**arguments)

    async def delete(self, target: Target, message_id: str) -> None:
        bot = self._connected("delete a message of Telegram's")
        try:
            await bot.delete_message(self._chat(target), _message_number(message_id))
        except TelegramError as error:
            found = calls.failure(error, self._options.token)
            if not found.is_missing:
                raise calls.adapter_error(found, "delete a message of Telegram's", repeatable=True) from None

    async def typing(self, target: Target) -> None:
        async with self._harmless("show that somebody types") as bot:
            thread = outbound.thread_of(target)
            await bot.send_chat_action(self._chat(target), "typing", message_thread_id=thread)

    async def react(self, target: Target, sign: str) -> None:
        if not self._options.reactions or not target.reply_to.isdigit():
            return
        reaction = [ReactionTypeEmoji(_REACTIONS.get(sign, sign))] if sign else []
        async with self._harmless("react to a message") as bot:
            await bot.set_message_reaction(self._chat(target), int(target.reply_to), reaction)

    async def settle(self, target: Target, message_id: str, text: str) -> None:
        await self.edit(target, message_id, Outbound(key=f"settle:{message_id}", text=text, kind="question"))

    async def show_menu(self, entries: Sequence[MenuEntry]) -> None:
        async with self._harmless("show the menu of commands") as bot:
            await bot.set_my_commands([BotCommand(*command) for command in menu.commands(entries)])

    async def fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        bot = self._connected("fetch a file from Telegram")
        if self._options.base_url == options.DEFAULT_BASE:
            limit = min(limit, media.FETCH_LIMIT)
        if file.size > limit:
            raise Rejected(f"the file is larger than {limit // (1 << 20)} MB, which is all that may be fetched")
        try:
            found = await bot.get_file(file.remote)
        except TelegramError as error:
            trouble = calls.failure(error, self._options.token)
            raise calls.adapter_error(trouble, "fetch a file from Telegram", repeatable=True) from None
        if not found.file_path:
            raise Gone("the file is not at Telegram any more")
        place = found.file_path.removeprefix(f"{bot.base_file_url}/")
        is_path, is_ours = place.startswith("/"), self._options.base_url != options.DEFAULT_BASE
        if is_path and is_ours and await asyncio.to_thread(Path(place).is_file):
            return await media.copy(Path(place), file, directory, limit)
        transport = network.transport(self._options.ways, 1)
        try:
            return await media.fetch(
                f"{bot.base_file_url}/{place}", file, directory, limit, proxy=self._options.proxy, transport=transport
            )
        except Gone as error:
            if is_path and is_ours:
                raise Rejected(f"{error}; its server names a path ({place}) that hermesd cannot read") from None
            raise

    # What comes in.

    async def _take(self, raw: Any) -> None:
        """Returns once the update may be acknowledged. One that cannot be understood must not stop those behind it."""
        receiver, bot, me = self._receiver, self._bot, self._me
        if receiver is None or bot is None or me is None:
            raise NotAccepted("hermesd is stopping", code="stopped")
        try:
            update = Update.de_json(raw, bot)
            found = inbound.translate(update, me, self.name, self._options)
        except Exception:  # whatever a malformed update does to the library
            log.exception("an update of Telegram (%s) cannot be read and is passed over", raw.get("update_id"))
            return
        if isinstance(found, Inbound):
            await receiver.receive(found)
        elif isinstance(found, Press):
            await self._pressed(receiver, update, found)
        else:
            log.debug("update %s is passed over: %s", update.update_id, found.reason)
            if update.callback_query is not None:
                await self._answer(update, "")

    async def _pressed(self, receiver: Receiver, update: Update, press: Press) -> None:
        try:
            pressed = await receiver.pressed(press)
        except Exception:  # a press can be repeated, and must not stop the messages behind it
            log.exception("a press of user %s could not be taken", press.user_id)
            pressed = Pressed(False, "That did not work. Please press again.")
        await self._answer(update, pressed.text, alert=not pressed.taken)

    async def _answer(self, update: Update, text: str, *, alert: bool = False) -> None:
        """The button turns until it is answered; what is shown is only a courtesy."""
        query = update.callback_query
        if query is None or self._bot is None:
            return
        try:
            await self._bot.answer_callback_query(query.id, text[:TOAST_LIMIT] or None, show_alert=alert)
        except TelegramError as error:
            log.info("a press was not answered: %s", calls.failure(error, self._options.token).text)

    # The connection.

    def _alive(self) -> None:
        self._standing.alive()
        if self._standing.word == "backing_off":
            self._standing.become("online", f"@{self._me.username}" if self._me else "")

    def _lost(self, error: AdapterError) -> None:
        self._standing.become("conflict" if isinstance(error, Conflict) else "backing_off", str(error), fix=error.fix)
        if self._receiver is not None:
            self._receiver.lost(self.name, error)

    def _connected(self, what: str) -> UpdatesBot:
        if self._bot is None:
            raise Retry(f"cannot {what}: it is not connected", after=1.0)
        return self._bot

    @contextlib.asynccontextmanager
    async def _harmless(self, what: str) -> AsyncIterator[UpdatesBot]:
        """For calls that may be made twice."""
        bot = self._connected(what)
        try:
            yield bot
        except TelegramError as error:
            found = calls.failure(error, self._options.token)
            raise calls.adapter_error(found, what, repeatable=True) from None

    def _chat(self, target: Target) -> int:
        try:
            chat = int(target.chat_id)
        except ValueError:
            raise Gone(f"cannot find the chat {target.chat_id!r}: Telegram's are numbers") from None
        return self._moved.get(chat, chat)


def _message_number(message_id: str) -> int:
    try:
        return int(message_id)
    except ValueError:
        raise Gone(f"cannot find the message {message_id!r}: Telegram's are numbers") from None
