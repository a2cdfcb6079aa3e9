"""A worker's access tokens: asked for once for all who wait, kept until their end, never handed out when refused."""

import asyncio

import pytest

from hermesd.ipc.messages import AccessToken, TokenWanted
from hermesd.workers.mcp.errors import Unauthorised
from hermesd.workers.mcp.tokens import Tokens


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def asked():
    return []


@pytest.fixture
def tokens(asked, now):
    return Tokens(asked.append, lambda: now[0])


async def waiting(tokens, *refused):
    tasks = [asyncio.ensure_future(tokens.token("far", each)) for each in refused]
    await asyncio.sleep(0)
    return tasks


async def test_one_question_answers_all(tokens, asked, now):
    tasks = await waiting(tokens, "", "")
    assert asked == [TokenWanted("far", "")]
    tokens.got(AccessToken("far", "a", 10.0))
    assert await asyncio.gather(*tasks) == ["a", "a"]
    assert await tokens.token("far", "") == "a"
    now[0] += 10.0
    (again,) = await waiting(tokens, "")
    tokens.got(AccessToken("far", "b"))
    assert await again == "b"
    now[0] += 1e6
    assert await tokens.token("far", "") == "b"


async def test_a_refused_one_is_not_given_again(tokens, asked):
    (first,) = await waiting(tokens, "")
    tokens.got(AccessToken("far", "a", 10.0))
    assert await first == "a"
    (second,) = await waiting(tokens, "a")
    assert asked[-1] == TokenWanted("far", "a")
    tokens.got(AccessToken("far", "b", 10.0))
    assert await second == "b"
    assert await tokens.token("far", "a") == "b"


async def test_an_error_is_for_those_who_wait_and_the_next_asks_again(tokens, asked):
    (first,) = await waiting(tokens, "")
    tokens.got(AccessToken("far", error="run hermesctl mcp login far"))
    with pytest.raises(Unauthorised, match="mcp login far"):
        await first
    (second,) = await waiting(tokens, "")
    assert len(asked) == 2
    tokens.got(AccessToken("far", "a"))
    assert await second == "a"


async def test_another_supervisor_is_asked_again(tokens, asked):
    (first,) = await waiting(tokens, "")
    tokens.ask_again()
    assert asked == [TokenWanted("far", "")] * 2
    tokens.got(AccessToken("far", "a"))
    assert await first == "a"
    tokens.got(AccessToken("far", "a"))  # the answer to the second question


async def test_who_stops_waiting_takes_nobody_along(tokens):
    first, second = await waiting(tokens, "", "")
    first.cancel()
    await asyncio.wait([first])
    tokens.got(AccessToken("far", "a"))
    assert await second == "a"
