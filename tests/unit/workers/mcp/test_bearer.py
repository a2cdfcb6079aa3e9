"""Which token a request carries, and what follows when the server refuses it."""

import pytest

from hermesd.workers.mcp.http import MAX_TOKENS, Bearer, http


@pytest.fixture
def sent():
    return []


async def exchange(sent, *statuses):
    """Let a server answer so; ``sent`` gets the tokens, and the last answer is what the flow ended with."""
    asked = []

    async def token(refused):
        asked.append(refused)
        return f"t{len(asked)}"

    flow = Bearer(token).async_auth_flow(http.Request("POST", "https://far/mcp"))
    request = await anext(flow)
    for status in statuses:
        sent.append(request.headers["Authorization"])
        try:
            request = await flow.asend(http.Response(status))
        except StopAsyncIteration:
            return asked, status
    raise AssertionError("it asks once more")


async def test_a_token_that_ended_on_its_way_is_replaced_more_than_once(sent):
    assert await exchange(sent, 401, 401, 200) == (["", "t1", "t2"], 200)
    assert sent == ["Bearer t1", "Bearer t2", "Bearer t3"]


async def test_a_server_that_takes_no_token_is_believed_in_the_end(sent):
    assert (await exchange(sent, *[401] * MAX_TOKENS))[1] == 401


async def test_no_other_answer_is_the_tokens_fault(sent):
    assert await exchange(sent, 403) == ([""], 403)
