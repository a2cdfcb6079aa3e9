"""Tokens, passwords and devices, and what happens when the server goes or does not want us any more."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer as TestingServer
from harness.matrix.bot import Bot, direct, state
from harness.matrix.person import Person
from harness.matrix.synapse import PASSWORD, Synapse

from hermesd.adapters.errors import AdapterError, StartLater, Unauthorized
from hermesd.adapters.matrix import outage


def by_password(bot: Bot, password: str = PASSWORD) -> None:
    bot.environ = {"MATRIX_USER_ID": bot.user_id, "MATRIX_PASSWORD": password}


def devices(bot: Bot) -> list[str]:
    return [one["device_id"] for one in bot.account.call("GET", "/_matrix/client/v3/devices")["devices"]]


class TestToken:
    async def test_it_tells_who_we_are(self, bot: Bot) -> None:
        await bot.start()
        described = bot.adapter.describe()
        assert (described["account"], described["device"], described["login"]) == (
            bot.user_id, bot.account.device_id, "token",
        )  # fmt: skip
        assert bot.account.token not in json.dumps(described)
        assert bot.adapter.state().word == "online"

    async def test_one_of_somebody_else_is_refused(self, bot: Bot, anna: Person) -> None:
        bot.environ["MATRIX_USER_ID"] = anna.user_id
        with pytest.raises(AdapterError, match=f"it is of {bot.user_id}, not of {anna.user_id}"):
            await bot.start()

    async def test_a_wrong_one_says_what_to_do(self, bot: Bot) -> None:
        bot.environ["MATRIX_ACCESS_TOKEN"] = "wrong"
        with pytest.raises(Unauthorized, match="M_UNKNOWN_TOKEN") as caught:
            await bot.start()
        assert "MATRIX_ACCESS_TOKEN" in caught.value.fix

    async def test_one_that_is_revoked_ends_the_connection_and_says_so(self, bot: Bot) -> None:
        await bot.start()
        bot.account.call("POST", "/_matrix/client/v3/logout", {})
        [loss] = await bot.core.until(lambda: bot.core.losses, 40.0)
        assert isinstance(loss, Unauthorized)

    async def test_another_account_reads_nothing_of_the_one_before(self, bot: Bot, anna: Person, ben: Person) -> None:
        """Neither from that one's place in the stream nor by its threads."""
        await bot.start()
        room = await direct(bot, anna)
        anna.say(room, "before")
        await bot.core.message("before")
        await bot.stop()
        anna.invite(room, ben.user_id)
        ben.join(room)
        anna.say(room, f"{ben.user_id} too early")
        bot.environ["MATRIX_ACCESS_TOKEN"] = ben.token
        await bot.start()
        assert bot.adapter.describe()["account"] == ben.user_id
        anna.say(room, f"{ben.user_id} now")
        await bot.core.message("now")
        assert bot.core.texts == ["before", "now"]


class TestPassword:
    async def test_a_restart_makes_no_new_device_and_no_new_login(self, bot: Bot) -> None:
        by_password(bot)
        await bot.start()
        device = bot.adapter.describe()["device"]
        kept = json.loads((bot.directory / "matrix" / "login.json").read_text())
        await bot.again()
        assert sorted(devices(bot)) == sorted([bot.account.device_id, device])
        assert json.loads((bot.directory / "matrix" / "login.json").read_text()) == kept
        assert (bot.directory / "matrix" / "login.json").stat().st_mode & 0o777 == 0o600

    async def test_a_login_that_was_cut_off_leaves_its_device_for_the_next(self, bot: Bot) -> None:
        by_password(bot)
        await bot.start()
        device = bot.adapter.describe()["device"]
        path = bot.directory / "matrix" / "login.json"
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "token": ""}))  # as it is before the server has answered
        await bot.again()
        assert sorted(devices(bot)) == sorted([bot.account.device_id, device])

    async def test_a_kept_login_that_was_revoked_is_made_anew(self, bot: Bot, anna: Person) -> None:
        by_password(bot)
        await bot.start()
        path = bot.directory / "matrix" / "login.json"
        token = json.loads(path.read_text())["token"]
        with_it = Person(bot.server.url, bot.user_id, token)
        with_it.call("POST", "/_matrix/client/v3/logout", {})
        with_it.close()
        [loss] = await bot.core.until(lambda: bot.core.losses, 40.0)
        assert isinstance(loss, StartLater), "a new start mends it"
        await bot.again()
        room = await direct(bot, anna)
        anna.say(room, "hello")
        await bot.core.message("hello")
        assert json.loads(path.read_text())["token"] != token

    async def test_a_device_can_be_named(self, bot: Bot) -> None:
        by_password(bot)
        bot.environ["MATRIX_DEVICE_ID"] = "OURS"
        await bot.start()
        assert bot.adapter.describe()["device"] == "OURS"

    async def test_a_wrong_one_says_what_to_do(self, bot: Bot) -> None:
        by_password(bot, "wrong")
        with pytest.raises(Unauthorized) as caught:
            await bot.start()
        assert "MATRIX_PASSWORD" in caught.value.fix


class TestServer:
    @pytest.mark.parametrize("said", ["<html>Welcome</html>", '["not found"]', '{"message": "no Route matched"}'])
    async def test_one_that_is_none_of_matrix_is_tried_again_and_it_is_told_what_to_look_at(
        self, bot: Bot, said: str
    ) -> None:
        """As a reverse proxy answers while the homeserver behind it is away."""

        async def page(_: web.Request) -> web.Response:
            mime = "text/html" if said.startswith("<") else "application/json"
            return web.Response(text=said, content_type=mime, status=404)

        app = web.Application()
        app.router.add_route("*", "/{any:.*}", page)
        async with TestingServer(app) as server:
            bot.environ["MATRIX_HOMESERVER"] = str(server.make_url("/"))
            with pytest.raises(
                StartLater, match="cannot log in to Matrix: status 404, and no word of a Matrix"
            ) as caught:
                await bot.start()
        assert "MATRIX_HOMESERVER" in caught.value.fix
        assert bot.adapter.state().word == "backing_off"

    async def test_one_that_is_not_there_is_a_reason_to_start_later(self, bot: Bot, free_port: int) -> None:
        bot.environ["MATRIX_HOMESERVER"] = f"http://127.0.0.1:{free_port}"
        with pytest.raises(StartLater, match="cannot"):
            await bot.start()
        assert bot.adapter.state().word == "backing_off"

    async def test_a_first_sync_that_takes_long_keeps_nobody_waiting(
        self, bot: Bot, anna: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hermesd.adapters.matrix.adapter.FIRST_SYNC_SECONDS", 0.0)
        await bot.start()
        assert bot.adapter.state().word == "connecting"
        await state(bot, "online")
        room = await direct(bot, anna)
        anna.say(room, "hello")
        await bot.core.message("hello")

    async def test_what_was_said_while_it_was_down_for_us_arrives_when_it_is_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a Synapse of its own, for it is stopped, and needs some time to be there again."""
        monkeypatch.setattr(outage, "DELAYS", (1.0,))
        monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 600.0)
        with Synapse(tmp_path / "synapse") as server:
            account, person = server.person("bot"), server.person("anna")
            bot = Bot(server, tmp_path, account)
            try:
                await bot.start()
                room = await direct(bot, person)
                await asyncio.to_thread(server.stop)
                assert re.search(r"the next try is in \d+ s", await state(bot, "backing_off"))
                assert bot.core.losses == []
                await asyncio.to_thread(server.start)
                person.say(room, "while you were away")
                await bot.core.message("while you were away", 30.0)
                assert await state(bot, "online") == ""
            finally:
                await bot.stop()
                account.close()
                person.close()


@pytest.mark.parametrize("way", ["token", "password"])
def test_two_with_the_same_login_would_clash(bot: Bot, way: str) -> None:
    if way == "password":
        by_password(bot)
    one, two = bot.make().identity(), bot.make().identity()
    assert one is not None
    assert one == two
    assert one.scope == "matrix-access-token"
    assert hashlib.sha256(one.secret.encode())
    assert one.secret not in repr(one)
