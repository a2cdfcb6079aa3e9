"""Hands out access tokens to the workers. One refresh of a server's at a time, whoever asks: a refresh token is good
for one use, and authorization servers end the whole grant when they see one twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hermesd.ipc import tls
from hermesd.ipc.messages import AccessToken, TokenWanted
from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.tasks import Tasks
from hermesd.supervisor.worker_template import tls_of

from .errors import LoginNeeded, OAuthError, RefreshFailed
from .grant import Grant, Refused, refresh_request, refreshed
from .store import Stamp, Store

log = logging.getLogger("hermesd.oauth")

SECONDS = 30.0
"""For one request to an authorization server."""

PAUSE = 2.0
"""Seconds after a failure in which its sentence is the answer: callers that try again at once would be a flood."""

MAX_ANSWER = 1 << 20


@dataclass(slots=True)
class _Known:
    stamp: Stamp
    grant: Grant


@dataclass(slots=True)
class _Failure:
    error: OAuthError
    until: float  # monotonic seconds
    stamp: Stamp | None


class Broker:
    """``servers`` gives the configuration as it is now."""

    def __init__(
        self,
        home: Path,
        servers: Callable[[], Mapping[str, McpServer]],
        tasks: Tasks,
    ) -> None:
        self.store = Store(home)
        self._servers = servers
        self._tasks = tasks
        self._known: dict[str, _Known] = {}
        self._failed: dict[str, _Failure] = {}
        self._refreshing: dict[str, asyncio.Future[Grant]] = {}
        self.refreshes = 0  # requests to authorization servers

    def wanted(self, message: TokenWanted, reply: Callable[[AccessToken], None]) -> None:
        """Called by the pool for a worker's message."""
        self._tasks.job(self._answer(message, reply), f"token of MCP server {message.server}")

    async def _answer(self, message: TokenWanted, reply: Callable[[AccessToken], None]) -> None:
        try:
            grant = await self.grant(message.server, message.refused)
        except OAuthError as error:
            reply(AccessToken(message.server, error=str(error)))
        else:
            reply(AccessToken(message.server, grant.access, grant.good_for(time.time()) or 0.0))

    async def grant(self, server: str, refused: str = "") -> Grant:
        """One whose access token is good and not ``refused``. Raises `OAuthError`."""
        configured = self._servers().get(server)
        if configured is None or configured.auth != "oauth":
            raise LoginNeeded(server, "is not configured with auth: oauth")
        if (running := self._refreshing.get(server)) is not None:
            return await asyncio.shield(running)
        grant = self._look(server, configured.url)
        if grant.access != refused and grant.good_for(time.time()) is not None:
            return grant
        if (failure := self._failed.get(server)) is not None:
            if failure.stamp == self.store.stamp(server) and time.monotonic() < failure.until:
                raise failure.error
            del self._failed[server]
        self._refreshing[server] = done = asyncio.get_running_loop().create_future()
        self._tasks.job(self._refresh(server, grant, done), f"refresh the token of MCP server {server}")
        return await asyncio.shield(done)

    def _look(self, server: str, url: str) -> Grant:
        """What is on disk; a login, or hermes-agent, may have written it just now."""
        stamp = self.store.stamp(server)
        known = self._known.get(server)
        if stamp is not None and known is not None and known.stamp == stamp:
            return known.grant
        grant = self.store.load(server, url) if stamp is not None else None
        if stamp is None or grant is None:
            self._known.pop(server, None)
            raise LoginNeeded(server, "has not been authorised yet")
        self._known[server] = _Known(stamp, grant)
        return grant

    async def _refresh(self, server: str, grant: Grant, done: asyncio.Future[Grant]) -> None:
        """A job of its own: nobody who stops waiting may end it between the answer and the disk."""
        try:
            found = await self._ask(server, grant)
            await asyncio.to_thread(self.store.save, server, found)
            if (stamp := self.store.stamp(server)) is not None:
                self._known[server] = _Known(stamp, found)
            result: Grant | OAuthError = found
        except OAuthError as error:
            log.warning("%s", error)
            # A refresh token that is worth nothing stays so until somebody logs in, and the file changes.
            pause = float("inf") if isinstance(error, LoginNeeded) else PAUSE
            self._failed[server] = _Failure(error, time.monotonic() + pause, self.store.stamp(server))
            result = error
        except OSError as error:
            result = RefreshFailed(server, f"the new one cannot be written to {self.store.directory}: {error}")
            log.error("%s", result)
        finally:
            del self._refreshing[server]
        if isinstance(result, OAuthError):
            done.set_exception(result)
            done.exception()  # whoever waited may be gone
        else:
            done.set_result(result)

    async def _ask(self, server: str, grant: Grant) -> Grant:
        if not grant.refresh:
            raise LoginNeeded(server, "has an authorisation that has ended and cannot be refreshed")
        form, headers = refresh_request(grant)
        self.refreshes += 1
        try:
            configured = self._servers().get(server)
            secure = (tls.context(tls_of(configured)) if configured is not None else None) or True
            timeout = aiohttp.ClientTimeout(total=SECONDS)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True) as client,
                client.post(
                    grant.token_endpoint, data=form, headers=headers, allow_redirects=False, ssl=secure
                ) as response,
            ):
                body = await response.content.read(MAX_ANSWER)
                return refreshed(grant, response.status, body, time.time())
        except Refused as refused:
            if refused.final:
                raise LoginNeeded(server, f"has an authorisation that has ended ({refused})") from refused
            raise RefreshFailed(server, str(refused)) from refused
        except TimeoutError as error:
            raise RefreshFailed(server, f"{grant.token_endpoint} did not answer within {SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RefreshFailed(server, f"{grant.token_endpoint}: {error}") from error
