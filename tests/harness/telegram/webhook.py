"""Delivers updates to the bot's own server, as WebhookActor.cpp does: a chat's in order, again until it says 200."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from .queue import Updates

RESEND_SECONDS = 1.0
"""The first delay; it doubles (WebhookActor.cpp `on_update_error`)."""


class Hook:
    """The webhook of one bot. ``plain_http`` lets a test do without a certificate."""

    def __init__(self, updates: Updates, *, plain_http: bool = True, resend: float = RESEND_SECONDS):
        self.updates = updates
        self.plain_http = plain_http
        self.resend = resend
        self.url = ""
        self._secret = ""
        self._connections = 40
        self._allowed: list[str] | None = None
        self._last_error = ""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.on_set: Any = None  # ends a poll that waits
        self.on_delivered: Callable[[], Awaitable[None]]
        self.deliveries: list[tuple[int, int]] = []  # update id, status

    def set(self, url: str, secret: str, connections: int, allowed: list[str] | None) -> None:
        self.url, self._secret, self._connections, self._allowed = url, secret, connections or 40, allowed
        if url and self.on_set is not None:
            self.on_set()
        self.wake()

    def info(self) -> dict[str, Any]:
        """Client.cpp:5945 JsonWebhookInfo."""
        shape: dict[str, Any] = {
            "url": self.url,
            "has_custom_certificate": False,
            "pending_update_count": len(self.updates),
        }
        if self._last_error:
            shape |= {"last_error_date": 1_760_000_000, "last_error_message": self._last_error}
        if self.url:
            shape |= {"max_connections": self._connections, "ip_address": "127.0.0.1"}
        if self._allowed is not None:
            shape["allowed_updates"] = self._allowed
        return shape

    def wake(self) -> None:
        self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._deliver(), name="telegram-webhook")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _deliver(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            while True:
                await self._wake.wait()
                self._wake.clear()
                chats: dict[Any, list[dict[str, Any]]] = {}
                for update in self.updates if self.url else ():
                    chats.setdefault(_chat_of(update), []).append(update)
                async with asyncio.TaskGroup() as group:
                    for waiting in chats.values():
                        group.create_task(self._deliver_chat(session, waiting))

    async def _deliver_chat(self, session: aiohttp.ClientSession, waiting: list[dict[str, Any]]) -> None:
        delay = self.resend
        for update in waiting:
            while self.url and not await self._post(session, update):
                await asyncio.sleep(delay)
                delay *= 2
            delay = self.resend

    async def _post(self, session: aiohttp.ClientSession, update: dict[str, Any]) -> bool:
        headers = {"X-Telegram-Bot-Api-Secret-Token": self._secret} if self._secret else {}
        status = 0
        try:
            async with session.post(self.url, json=update, headers=headers) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            self._last_error = f"Connection failed: {type(error).__name__}"
        self.deliveries.append((update["update_id"], status))
        if 200 <= status <= 299:
            self.updates.forget(update["update_id"])
        elif status:
            self._last_error = f"Wrong response from the webhook: {status}"
        await self.on_delivered()
        return 200 <= status <= 299


def _chat_of(update: dict[str, Any]) -> Any:
    for what in update.values():
        if isinstance(what, dict):
            return (what.get("chat") or what.get("message", {}).get("chat") or {}).get("id", 0)
    return 0
