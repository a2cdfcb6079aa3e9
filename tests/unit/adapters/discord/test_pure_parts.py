"""Small deciders: options, nonces, the day's sessions, errors, buttons."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import aiohttp
import discord
import pytest

from hermesd.adapters.contract import AdapterSettings, MenuEntry, Outbound, Question, Target
from hermesd.adapters.discord import buttons, outbound
from hermesd.adapters.discord.calls import ending, failure
from hermesd.adapters.discord.identify import Allowance, wait_before
from hermesd.adapters.discord.intake import id_at, time_of
from hermesd.adapters.discord.options import read
from hermesd.adapters.errors import AdapterError, Gone, Rejected, Retry, StartLater, Unauthorized

DAY = 86_400.0
NOW = 1_800_000_000.0


def settings(extra: dict[str, Any] | None = None, **environ: str) -> AdapterSettings:
    return AdapterSettings("discord", token="t.o.k", extra=extra or {}, environ=environ)


def test_the_environment_goes_before_the_file() -> None:
    options = read(
        settings(
            {"require_mention": True, "free_response_channels": [1, 2], "auto_thread": "no"},
            DISCORD_REQUIRE_MENTION="false",
            DISCORD_ALLOWED_CHANNELS="3, 4",
            DISCORD_ALLOW_BOTS="Mentions",
        )
    )
    assert not options.require_mention
    assert not options.auto_thread
    assert options.free_channels == {"1", "2"}
    assert options.allowed_channels == {"3", "4"}
    assert options.allow_bots == "mentions"
    assert "t.o.k" not in repr(options)


def test_the_proxy_of_the_environment_is_for_discords_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert read(settings()).proxy == ""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert read(settings()).proxy == "http://proxy.example:3128"
    assert read(settings(DISCORD_PROXY="http://other.example:1")).proxy == "http://other.example:1"
    assert read(settings({"base_url": "http://127.0.0.1:1/api/v10"})).proxy == ""
    monkeypatch.setenv("NO_PROXY", ".example,discord.com")
    assert read(settings()).proxy == ""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    assert read(settings()).proxy == ""


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (AdapterSettings("discord"), "without a token"),
        (settings(DISCORD_ALLOW_BOTS="some"), "DISCORD_ALLOW_BOTS"),
        (settings({"gateway_url": "http://x"}), "gateway_url"),
        (settings({"base_url": "ftp://x"}), "base_url"),
        (settings(DISCORD_AUTO_THREAD="perhaps"), "DISCORD_AUTO_THREAD"),
    ],
)
def test_what_cannot_be_used_is_named(given: AdapterSettings, named: str) -> None:
    with pytest.raises(AdapterError, match=named) as refused:
        read(given)
    assert refused.value.fix


def test_a_nonce_is_a_keys_own_and_fits() -> None:
    nonces = {outbound.nonce(f"turn-{number}") for number in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {25}
    assert outbound.nonce("turn-1") == outbound.nonce("turn-1")


@pytest.mark.parametrize(
    ("target", "in_channel", "channel", "reference"),
    [
        (Target("discord", "10"), False, 10, 0),
        (Target("discord", "10", reply_to="5"), False, 10, 5),
        (Target("discord", "10", "20", "25"), False, 20, 25),
        (Target("discord", "10", "20", "20"), False, 20, 0),
        (Target("discord", "10", "20", "20"), True, 10, 20),
        (Target("discord", "10", reply_to="command"), False, 10, 0),
    ],
)
def test_where_a_message_goes_and_what_it_quotes(
    target: Target, in_channel: bool, channel: int, reference: int
) -> None:
    call = outbound.call(target, Outbound("k", "text"), in_channel=in_channel)
    assert (call.channel, call.reference) == (channel, reference)
    assert outbound.call(target, Outbound("k", "text", quotes=False), in_channel=in_channel).reference == 0


def test_a_target_that_is_not_discords_is_gone() -> None:
    with pytest.raises(Gone, match="'lobby' is no id"):
        outbound.call(Target("discord", "lobby"), Outbound("k", "text"))


@pytest.mark.parametrize(
    ("text", "name"), [("", ""), ("\n \n hi \nthere", "hi"), ("x" * 90, "x" * 79 + "…")]
)  # fmt: skip
def test_a_thread_is_called_by_its_first_line(text: str, name: str) -> None:
    assert outbound.thread_name(text) == name


def test_the_menu_that_is_registered_already_is_the_same() -> None:
    wanted = outbound.commands([MenuEntry("Help", "what can be said"), MenuEntry("title", "t" * 200, "a name")])
    assert [command["name"] for command in wanted] == ["help", "title"]
    assert len(wanted[1]["description"]) == 100
    registered = [{**command, "id": "1", "version": "2", "nsfw": False} for command in reversed(wanted)]
    assert outbound.same_commands(wanted, registered)
    assert not outbound.same_commands(wanted[:1], registered)


@pytest.mark.parametrize(
    ("remaining", "last", "wait"),
    [(1000, 0, 0), (501, NOW, 0), (500, 0, 0), (500, NOW, DAY / 500), (100, NOW - 60, DAY / 100 - 60), (0, 0, DAY)],
)
def test_the_second_half_of_the_sessions_is_spread(remaining: int, last: float, wait: float) -> None:
    assert wait_before(Allowance(1000, remaining, DAY), last, NOW) == pytest.approx(wait)


def test_ids_are_times() -> None:
    assert time_of(id_at(1_800_000_000.5)) == pytest.approx(1_800_000_000.5, abs=0.002)
    assert id_at(0) == 0


def answered(status: int, code: int = 0, text: str = "no", **headers: str) -> discord.HTTPException:
    response = Mock(spec=aiohttp.ClientResponse, status=status, reason="reason", headers=headers)
    return discord.HTTPException(response, {"code": code, "message": text})


@pytest.mark.parametrize(
    ("error", "becomes", "after"),
    [
        (discord.RateLimited(12.5), Retry, 12.5),
        (answered(429, **{"Retry-After": "7"}), Retry, 7.0),
        (answered(429), Retry, 60.0),
        (answered(502), Retry, 5.0),
        (answered(400, 20028), Retry, 5.0),
        (answered(401), Unauthorized, None),
        (answered(403, 50007), Gone, None),
        (answered(404), Gone, None),
        (answered(403, 50013), Rejected, None),
        (answered(400, 50006), Rejected, None),
        (ConnectionResetError("cut"), Retry, 2.0),
        (aiohttp.ServerDisconnectedError(), Retry, 2.0),
        (TimeoutError(), Retry, 2.0),
        (discord.InvalidData("x"), Rejected, None),
        (Gone("cannot: gone"), Gone, None),
    ],
)
def test_errors_become_what_to_do_next(error: Exception, becomes: type[Exception], after: float | None) -> None:
    found = failure("cannot send", error)
    assert type(found) is becomes
    assert str(found).startswith("cannot")
    if after is not None:
        assert isinstance(found, Retry)
        assert found.after == pytest.approx(after)


def closed(code: int) -> discord.ConnectionClosed:
    return discord.ConnectionClosed(Mock(close_code=code), shard_id=None, code=code)


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (discord.LoginFailure("no"), Unauthorized), (discord.PrivilegedIntentsRequired(None), Unauthorized),
        (closed(4004), Unauthorized), (closed(4013), Unauthorized), (closed(4011), StartLater),
        (discord.GatewayNotFound(), StartLater), (OSError("no route"), StartLater), (answered(503), StartLater),
        (AttributeError("no attribute 'sequence'"), StartLater), (StartLater("later"), StartLater),
    ],
)  # fmt: skip
def test_ends_of_the_connection_become_states(error: Exception, becomes: type[Exception]) -> None:
    assert type(ending(error)) is becomes


async def test_a_button_brings_its_question_and_choice_back() -> None:
    view = buttons.view_of(Question("ask:with:colons", ("once", "deny")))
    assert view is not None
    (row,) = view.to_components()
    components = [discord.ActionRow(row)] if hasattr(discord, "ActionRow") else []
    pressed = [buttons.pressed({"custom_id": one["custom_id"]}, components) for one in row["components"]]
    assert pressed == [("ask:with:colons", "once"), ("ask:with:colons", "deny")]
    assert buttons.pressed({"custom_id": "somebody:else:0"}, components) is None


@pytest.mark.parametrize("choices", [(), ("x" * 81,), ("",), tuple(map(str, range(26)))])
def test_choices_that_fit_on_no_button(choices: tuple[str, ...]) -> None:
    assert buttons.view_of(Question("a", choices)) is None
