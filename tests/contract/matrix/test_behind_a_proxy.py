"""A homeserver behind a reverse proxy, which says 404 in HTML, as Traefik does, as long as the server is being started,
and 502 of a room whose own server is away, as Synapse does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from harness.matrix.bot import Bot, direct, group
from harness.matrix.person import V3, Person
from harness.matrix.proxy import Proxy
from harness.networks.weather import UNWELL, Trouble

from hermesd.adapters.errors import Retry
from hermesd.adapters.matrix import invites, outage, syncing

NOT_FOUND = Trouble(UNWELL, 0.0, 404)


@pytest.fixture
async def proxy(bot: Bot) -> AsyncIterator[Proxy]:
    with Proxy(bot.server.url) as made:
        bot.environ["MATRIX_HOMESERVER"] = made.url
        bot.extra["homeserver"] = made.url
        yield made
        await bot.stop()


def once(proxy: Proxy, fits: Callable[[web.Request], bool]) -> list[str]:
    """The first call that fits finds no server; the paths of those that did."""
    met: list[str] = []

    def trouble(request: web.Request) -> Trouble | None:
        if met or not fits(request):
            return None
        met.append(request.path)
        return NOT_FOUND

    proxy.trouble = trouble
    return met


async def test_a_message_is_put_off(bot: Bot, proxy: Proxy, anna: Person) -> None:
    await bot.start()
    room = await direct(bot, anna)
    once(proxy, lambda request: "/send/" in request.path)
    with pytest.raises(Retry, match="status 404, and no word of a Matrix server: <html>the proxy is unwell"):
        await bot.send(room, "hello")
    await bot.send(room, "hello")


@pytest.mark.parametrize(("call", "limit"), [("/joined_members", 100), ("/messages", 2)])
async def test_no_message_is_left_out_because_the_server_cannot_be_asked_about_it(
    bot: Bot, proxy: Proxy, anna: Person, ben: Person, monkeypatch: pytest.MonkeyPatch, call: str, limit: int
) -> None:
    monkeypatch.setattr(outage, "DELAYS", (0.05,))
    monkeypatch.setitem(syncing.FILTER["room"]["timeline"], "limit", limit)
    await bot.start()
    room = await group(bot, anna, ben)
    await bot.stop()
    for number in range(5):
        anna.say(room, f"message {number}", mention=bot.user_id)
    met = once(proxy, lambda request: request.path.endswith(call))
    await bot.start()
    await bot.core.message("message 4")
    assert met
    assert bot.core.texts == [f"message {number}" for number in range(5)]


async def test_invitations_to_rooms_of_servers_that_are_away_keep_no_other_waiting(
    bot: Bot, proxy: Proxy, anna: Person, ben: Person
) -> None:
    away = Trouble(UNWELL, 0.0, 502)
    dead: list[str] = []
    proxy.trouble = lambda request: away if any(f"/{room}/join" in request.path for room in dead) else None
    await bot.start()
    for _ in range(invites.AT_ONCE + 1):
        dead.append(ben.create_room("@nobody:localhost"))
        ben.invite(dead[-1], bot.user_id)
    await bot.core.until(lambda: all(room in bot.core.kept.get("invites", "") for room in dead))
    await direct(bot, anna)
    await bot.again()
    await direct(bot, anna)
    assert all(room in bot.core.kept["invites"] for room in dead)
    ben.call("POST", f"{V3}/rooms/{dead[0]}/kick", {"user_id": bot.user_id})
    await bot.core.until(lambda: dead[0] not in bot.core.kept["invites"])


async def test_an_invitation_to_a_server_that_comes_back_is_accepted_then(
    bot: Bot, proxy: Proxy, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invites, "SHORTEST", 0.05)
    met = once(proxy, lambda request: request.path.endswith("/join"))
    await bot.start()
    await direct(bot, anna)
    assert met
    await bot.core.until(lambda: bot.core.kept["invites"] == "{}")
