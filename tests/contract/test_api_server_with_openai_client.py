"""The API server as OpenAI's own Python client sees it; the core behind it is a small receiver that answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from hermesd.adapters import registry
from hermesd.adapters.api_server import routes
from hermesd.adapters.contract import Inbound, Outbound, Target, Utterance
from hermesd.adapters.errors import Gone, NotAccepted

KEY = "key-of-this-test"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


class Core:
    """Answers every message but "!wait"; remembers what came, and what it was told to give up."""

    def __init__(self) -> None:
        self.adapter: Any = None
        self.received: list[Inbound] = []
        self.arrived = asyncio.Event()
        self.cancelled: asyncio.Queue[Target] = asyncio.Queue()
        self.undelivered: list[Exception] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def receive(self, inbound: Inbound) -> bool:
        if inbound.text == "!refuse":
            raise NotAccepted("the disk is full", code="disk_full")
        if any((known.chat_id, known.message_id) == (inbound.chat_id, inbound.message_id) for known in self.received):
            return False
        self.received.append(inbound)
        self.arrived.set()
        task = asyncio.create_task(self._answer(inbound))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    def cancel(self, inbound_chat: Target) -> None:
        self.cancelled.put_nowait(inbound_chat)

    async def _answer(self, inbound: Inbound) -> None:
        target = Target(inbound.platform, inbound.chat_id, reply_to=inbound.message_id)
        try:
            match inbound.text:
                case "!wait":
                    return
                case "!fail":
                    await self._send(target, "the model said 400", kind="error")
                case "!usage":
                    usage = {"prompt_tokens": 7, "completion_tokens": 3}
                    await self.adapter.send(target, Outbound("k", "counted", usage=usage))
                case "!extra":
                    await self._send(target, "besides", kind="extra", final=False)
                    await self._send(target, "still at it", kind="notice", final=False)
                    await self._send(target, "may I?", kind="question", final=False)
                    await self._send(target, "the answer")
                case "!stream":
                    self.adapter.notice(target, "2 turns are before you\ndata: not content")
                    for word in ("one ", "two "):
                        self.adapter.stream(target, word)
                        await asyncio.sleep(0)
                    await self._send(target, "one two three")
                case text:
                    await self._send(target, f"you said: {text}")
        except Gone as error:
            self.undelivered.append(error)

    async def _send(self, target: Target, text: str, *, kind: str = "answer", final: bool = True) -> None:
        await self.adapter.send(target, Outbound(f"{target.reply_to}-{text}", text, kind=kind, final=final))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def serving(**extra: Any) -> AsyncIterator[tuple[Core, str]]:
    core = Core()
    core.adapter = registry.make("api_server", {"extra": {"port": 0, "key": KEY, **extra}})
    await core.adapter.start(core)
    try:
        yield core, core.adapter.describe()["address"]
    finally:
        await core.adapter.stop()
        await core.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Core, str]]:
    async with serving(media_dir=str(tmp_path / "media")) as running:
        yield running


@pytest.fixture
def core(server: tuple[Core, str]) -> Core:
    return server[0]


@pytest.fixture
def url(server: tuple[Core, str]) -> str:
    return server[1]


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        yield session


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def ask(client: AsyncOpenAI, text: str, **more: Any) -> Any:
    return await client.chat.completions.create(model="any", messages=[user(text)], **more)


async def test_a_plain_request_is_answered(client: AsyncOpenAI, core: Core) -> None:
    completion = await ask(client, "hello")
    assert completion.choices[0].message.content == "you said: hello"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "any"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


async def test_the_blocking_client_works_too(url: str) -> None:
    def talk() -> tuple[str | None, str]:
        with OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60) as client:
            plain = client.chat.completions.create(model="any", messages=[user("hello")])
            chunks = client.chat.completions.create(model="any", messages=[user("!stream")], stream=True)
            return plain.choices[0].message.content, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert await asyncio.to_thread(talk) == ("you said: hello", "one two three")


async def test_usage_of_the_agent_is_passed_on(client: AsyncOpenAI) -> None:
    usage = (await ask(client, "!usage")).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)


async def test_a_stream_has_its_role_first_then_the_text_then_stop(client: AsyncOpenAI) -> None:
    chunks = [chunk async for chunk in await ask(client, "!stream", stream=True)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["one ", "two ", "three"]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_ends_with_usage_when_asked_to(client: AsyncOpenAI) -> None:
    stream = await ask(client, "!usage", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10


async def test_notices_are_comments_of_the_stream_and_never_content(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/chat/completions", json={"messages": [user("!stream")], "stream": True}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = (await response.text()).splitlines()
    assert ": 2 turns are before you" in lines
    assert ": data: not content" in lines
    assert all(line == "" or line.startswith(("data: ", ": ")) for line in lines)
    assert lines[-2] == "data: [DONE]"


async def test_what_an_agent_sends_and_asks_is_content_and_what_hermesd_remarks_is_not(client: AsyncOpenAI) -> None:
    assert (await ask(client, "!extra")).choices[0].message.content == "besides\n\nmay I?\n\nthe answer"
    chunks = [chunk async for chunk in await ask(client, "!extra", stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "besides\n\nmay I?\n\nthe answer"


async def test_a_silent_stream_is_kept_alive(
    http: aiohttp.ClientSession, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_ALIVE", 0.01)
    async with http.post(f"{url}/chat/completions", json={"messages": [user("!wait")], "stream": True}) as response:
        async for line in response.content:
            if line == b": keep-alive\n":
                break


async def test_without_a_session_the_request_brings_its_own_history(client: AsyncOpenAI, core: Core) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "be brief"},
        user("first"),
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]},
    ]
    for _ in range(2):
        await client.chat.completions.create(model="any", messages=messages)
    first, second = core.received
    assert first.text == "two\nparts"
    assert first.history == (
        Utterance("system", "be brief"),
        Utterance("user", "first"),
        Utterance("assistant", "answer"),
    )
    assert first.chat_id.startswith("req-")
    assert first.chat_id != second.chat_id


async def test_a_named_session_takes_the_last_message_only(client: AsyncOpenAI, core: Core) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="any",
        messages=[user("first"), {"role": "assistant", "content": "x"}, user("last")],
        extra_headers={"X-Hermes-Session-Id": "kitchen"},
    )
    assert raw.headers["X-Hermes-Session-Id"] == "kitchen"
    assert (core.received[0].chat_id, core.received[0].text, core.received[0].history) == ("kitchen", "last", None)
    assert core.received[0].trusted


async def test_the_stream_of_a_named_session_names_it_too(http: aiohttp.ClientSession, url: str) -> None:
    headers = {"X-Hermes-Session-Id": "kitchen"}
    body = {"messages": [user("hello")], "stream": True}
    async with http.post(f"{url}/chat/completions", json=body, headers=headers) as response:
        assert response.headers["X-Hermes-Session-Id"] == "kitchen"
        await response.read()


async def test_fifty_sessions_at_once_each_get_their_own_answer(client: AsyncOpenAI, core: Core) -> None:
    async def talk(number: int) -> str:
        completion = await ask(client, f"I am {number}", extra_headers={"X-Hermes-Session-Id": f"s{number}"})
        return str(completion.choices[0].message.content)

    answers = await asyncio.gather(*(talk(number) for number in range(50)))
    assert answers == [f"you said: I am {number}" for number in range(50)]
    assert len({inbound.message_id for inbound in core.received}) == 50
    assert core.adapter.describe()["requests"] == 0


async def test_a_wrong_key_is_401(url: str, core: Core) -> None:
    async with AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await ask(client, "hello")
    assert caught.value.code == "invalid_api_key"
    assert core.received == []


async def test_bad_requests_are_400_and_say_where(client: AsyncOpenAI, core: Core) -> None:
    cases: list[tuple[list[Any], str]] = [
        ([], "at least one message"),
        ([user("x"), {"role": "assistant", "content": "y"}], "must come from the user"),
        ([user(" ")], "is empty"),
        ([{"role": "robot", "content": "x"}], r"messages\[0\].role is 'robot'"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], r"messages\[0\].content\[0\].type is 'input_audio'"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}]}],
            "does not fetch addresses",
        ),
    ]
    for messages, why in cases:
        with pytest.raises(openai.BadRequestError, match=why):
            await client.chat.completions.create(model="any", messages=messages)
    assert core.received == []


async def test_what_is_no_json_is_400_and_what_is_too_large_413(http: aiohttp.ClientSession, url: str) -> None:
    for body, status, code in (
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b" " * ((1 << 20) + 1), 413, "request_too_large"),
    ):
        async with http.post(f"{url}/chat/completions", data=io.BytesIO(body)) as response:
            assert response.status == status
            assert (await response.json())["error"]["code"] == code


async def test_a_failed_agent_is_an_error_that_is_not_repeated(url: str, core: Core) -> None:
    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError, match="the model said 400") as caught:
            await ask(client, "!fail")
        assert caught.value.type == "agent_error"
        with pytest.raises(openai.APIError, match="the model said 400"):
            _ = [chunk async for chunk in await ask(client, "!fail", stream=True)]
    assert len(core.received) == 2
    assert core.undelivered == []


async def test_a_request_that_could_not_be_kept_is_503_with_a_time_to_come_back(client: AsyncOpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError, match="the disk is full") as caught:
            await ask(client, "!refuse", stream=stream)
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["Retry-After"]) > 0
        assert caught.value.code == "disk_full"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_interrupts_its_turn(client: AsyncOpenAI, core: Core, stream: bool) -> None:
    async def talk() -> None:
        answer = await ask(client, "!wait", stream=stream, extra_headers={"X-Hermes-Session-Id": "kitchen"})
        async for _ in answer:
            pass

    talking = asyncio.create_task(talk())
    await core.arrived.wait()
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    async with asyncio.timeout(30):
        given_up = await core.cancelled.get()
    assert given_up == Target("api_server", "kitchen", reply_to=core.received[0].message_id)
    with pytest.raises(Gone):
        await core.adapter.send(given_up, Outbound("k", "too late"))
    assert core.adapter.describe()["requests"] == 0


async def test_an_answered_request_is_not_given_up(client: AsyncOpenAI, core: Core) -> None:
    await ask(client, "hello")
    _ = [chunk async for chunk in await ask(client, "hello", stream=True)]
    assert core.cancelled.empty()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_never_comes_is_504_and_given_up(stream: bool) -> None:
    async with serving(request_timeout=0.05) as (core, url):
        async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=2) as client:
            with pytest.raises(openai.APIError, match="no answer within") as caught:
                async for _ in await ask(client, "!wait", stream=stream):
                    pass
        assert caught.value.code == "timeout"
        assert not core.cancelled.empty()
        assert len(core.received) == 1


@pytest.mark.parametrize(
    ("session", "becomes"), [("kitchen", "its answer will be in session kitchen"), ("", "it ends with its connection")]
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("settled", [False, True])
async def test_stop_tells_requests_that_were_accepted_what_becomes_of_them(
    client: AsyncOpenAI, core: Core, session: str, becomes: str, stream: bool, settled: bool
) -> None:
    """``settled``: whether the adapter had heard that the core has it."""

    async def talk() -> None:
        headers = {"X-Hermes-Session-Id": session} if session else {}
        answer = await ask(client, "!wait", stream=stream, extra_headers=headers)
        async for _ in answer:
            pass

    talking = asyncio.create_task(talk())
    await core.arrived.wait()
    while settled and not next(iter(core.adapter._exchanges._open.values())).accepted.done():
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await core.adapter.stop()
        with pytest.raises(
            openai.APIError, match=f"closes this connection; the request was accepted: .*{becomes}"
        ) as told:
            await talking
    assert told.value.code == "connection_closing"
    assert "not accepted" not in str(told.value)
    assert len(core.received) == 1, "no client repeats it by itself"
    assert core.cancelled.empty(), "the turn goes on"


async def test_a_repeated_idempotency_key_joins_its_request_and_gets_the_kept_answer(
    http: aiohttp.ClientSession, url: str, core: Core
) -> None:
    async def post(text: str) -> tuple[int, Any]:
        headers = {"Idempotency-Key": "k-1"}
        async with http.post(f"{url}/chat/completions", json={"messages": [user(text)]}, headers=headers) as response:
            return response.status, await response.json()

    answers = await asyncio.gather(post("hello"), post("hello"))
    answers.append(await post("hello"))
    assert [body["choices"][0]["message"]["content"] for _, body in answers] == ["you said: hello"] * 3
    assert len(core.received) == 1
    status, body = await post("something else")
    assert (status, body["error"]["code"]) == (422, "idempotency_key_reused")


async def test_a_key_that_an_earlier_life_has_answered_is_409(
    http: aiohttp.ClientSession, url: str, core: Core
) -> None:
    core.received.append(Inbound("api_server", "kitchen", "k-2", "api", "hello"))
    headers = {"Idempotency-Key": "k-2", "X-Hermes-Session-Id": "kitchen"}
    async with http.post(f"{url}/chat/completions", json={"messages": [user("hello")]}, headers=headers) as response:
        assert response.status == 409
        assert (await response.json())["error"]["code"] == "already_taken"


async def test_inline_images_become_attachments(client: AsyncOpenAI, core: Core, tmp_path: Path) -> None:
    data = base64.b64encode(PNG).decode()
    content: Any = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    await client.chat.completions.create(model="any", messages=[{"role": "user", "content": content}])
    (attachment,) = core.received[0].attachments
    assert attachment.mime == "image/png"
    assert Path(attachment.path).read_bytes() == PNG
    assert Path(attachment.path).stat().st_mode & 0o777 == 0o600
    content[1]["image_url"]["url"] = "data:image/png;base64,AAAA"
    with pytest.raises(openai.BadRequestError, match="its content is not image/png"):
        await client.chat.completions.create(model="any", messages=[{"role": "user", "content": content}])

    content[0]["text"] = "!refuse"
    content[1]["image_url"]["url"] = f"data:image/png;base64,{data}"
    with pytest.raises(openai.InternalServerError, match="the disk is full"):
        await client.chat.completions.create(model="any", messages=[{"role": "user", "content": content}])
    assert [path.name for path in (tmp_path / "media").iterdir()] == [attachment.name]


async def test_health_needs_no_key_and_says_nothing_private(url: str) -> None:
    async with aiohttp.ClientSession() as stranger:
        for path in ("/health", "/v1/health"):
            async with stranger.get(url.removesuffix("/v1") + path) as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with stranger.get(f"{url}/models") as response:
            assert response.status == 401


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["hermes-agent"]
    assert (await client.models.retrieve("hermes-agent")).owned_by == "hermesd"
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        await client.models.retrieve("gpt-9")


async def test_unknown_paths_and_methods_are_error_objects(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(f"{url}/nothing") as response:
        assert (response.status, (await response.json())["error"]["type"]) == (404, "invalid_request_error")
    async with http.get(f"{url}/chat/completions") as response:
        assert (response.status, (await response.json())["error"]["type"]) == (405, "invalid_request_error")


async def test_another_host_name_or_origin_is_403(http: aiohttp.ClientSession, url: str) -> None:
    for headers, code in (
        ({"Host": "evil.example:8642"}, "host_not_allowed"),
        ({"Origin": "http://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
    ):
        async with http.get(f"{url}/models", headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, code)
            assert "Access-Control-Allow-Origin" not in response.headers
    for name in ("localhost", "127.0.0.1:8642", "[::1]:8642", "192.168.1.5"):
        async with http.get(f"{url}/models", headers={"Host": name}) as response:
            assert response.status == 200


async def test_a_listed_origin_may_use_the_server_from_a_browser() -> None:
    origin = "https://chat.example"
    async with serving(cors_origins=f"{origin}, https://other.example") as (_, url), aiohttp.ClientSession() as http:
        preflight = {"Origin": origin, "Access-Control-Request-Headers": "authorization,x-stainless-os"}
        async with http.options(f"{url}/chat/completions", headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        headers = {"Origin": origin, "Authorization": f"Bearer {KEY}"}
        body = {"messages": [user("hello")], "stream": True}
        async with http.post(f"{url}/chat/completions", json=body, headers=headers) as response:
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Vary"] == "Origin"
            assert json.dumps("you said: hello") in await response.text()
