"""discord.py's client, told what we need of it: little in memory, a rate limit that is told instead of slept through,
and, where the configuration says so, another server.

discord.py keeps the addresses of its servers in class attributes (``discord.http.Route.BASE``,
``discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY``). Those stay as they are: this client's own `HTTPClient` replaces
the address at the moment of the call, so that two adapters in one process may talk to different servers. Everything we
send goes through that one method; `discord.Interaction.response` and webhooks do not, so we do not use them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import discord
from discord.gateway import DiscordWebSocket
from discord.http import HTTPClient, Route
from yarl import URL

from .options import Options

log = logging.getLogger(__name__)

SLEEP_LIMIT = 1.0
"""Seconds of a rate limit that discord.py may sleep through; longer ones end as `discord.RateLimited`, and the lane of
the message waits, not a task. discord.py's own least is 30 s, against bots that ignore the error."""


class Http(HTTPClient):
    """One chokepoint for every REST call of one adapter."""

    def __init__(self, base: HTTPClient, options: Options):
        self._global_until = 0.0
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        super().__init__(base.loop, proxy=options.proxy or None, http_trace=self._trace(), unsync_clock=True)
        self.max_ratelimit_timeout = SLEEP_LIMIT
        self._base_url = options.base_url
        self._gateway_url = URL(options.gateway_url) if options.gateway_url else None

    async def request(self, route: Route, **kwargs: Any) -> Any:
        if (left := self._global_until - time.monotonic()) > 0:
            raise discord.RateLimited(left)
        if self._base_url:
            route.url = self._base_url + route.url.removeprefix(Route.BASE)
        return await super().request(route, **kwargs)

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        asked = URL(url)
        if self._gateway_url is not None and asked.host == DiscordWebSocket.DEFAULT_GATEWAY.host:
            url = str(self._gateway_url.with_query(asked.query))
        self._socket = await super().ws_connect(url, compress=compress)
        return self._socket

    async def close(self) -> None:
        """discord.py forgets a socket on which no session was begun: `Client.before_identify_hook` may raise."""
        await super().close()
        if self._socket is not None:
            self._socket._response.close()

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._note_global_limit)
        return trace

    async def _note_global_limit(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, ended: aiohttp.TraceRequestEndParams
    ) -> None:
        """A global limit concerns every call, and `discord.RateLimited` does not tell which kind it was."""
        headers = ended.response.headers
        if ended.response.status == 429 and headers.get("X-RateLimit-Global", "").lower() == "true":
            self._global_until = time.monotonic() + float(headers.get("Retry-After", 1))


class Client(discord.Client):
    """``hooks``: plain functions by discord.py's names of events, and the coroutines logged_in and before_identify."""

    def __init__(self, options: Options, **hooks: Any):
        # discord.py's switches for "voice will NOT be supported" at the first client of a process: nobody asked for it.
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
        intents = discord.Intents.none()
        intents.guilds = intents.guild_messages = intents.dm_messages = True
        intents.message_content = options.message_content
        super().__init__(
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            enable_debug_events=True,  # on_socket_raw_receive: every sign of life, acknowledged heartbeats too
        )
        self.http = self._connection.http = Http(self.http, options)
        self._hooks_of_ours = hooks

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Called for each event, in the order in which they came. Events of ours are plain functions, called at once:
        discord.py would make a task of each, and tasks of two messages may overtake each other.
        """
        if (hook := self._hooks_of_ours.get(event)) is not None:
            try:
                hook(*args, **kwargs)
            except Exception:  # our fault must not end the connection
                log.exception("cannot handle Discord's event %s", event)
        super().dispatch(event, *args, **kwargs)

    async def close(self) -> None:
        """discord.py leaves the task that waits for the end of the list of servers behind."""
        waiting = self._connection._ready_task
        while waiting is not None and not waiting.done():
            waiting.cancel()
            # Python 3.11's wait_for loses a cancellation that meets its result, so once may not be enough.
            await asyncio.wait([waiting], timeout=0.05)
        await super().close()

    async def setup_hook(self) -> None:
        await self._hooks_of_ours["logged_in"]()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        await self._hooks_of_ours["before_identify"]()
