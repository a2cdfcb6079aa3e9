"""The agent ``llm`` and endpoints that others wrote: a fault is a sentence, and the next message is answered."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.aimock import AiMock, aimock, has_aimock
from harness.lacking import lacking
from harness.llm_agent import Heard, Talk, model
from harness.llmock import LlMock, llmock
from harness.odd_endpoint import delta, odd_endpoint

from hermesd.ipc.messages import File
from hermesd.workers.errors import TurnFailed

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f00050001ff"
    "56c72f0d0000000049454e44ae426082"
)


Begin = Callable[..., Talk]

TOLD = {
    3600: "gave_up", "disconnect": "gave_up", "truncate": "truncated_stream_accepted",
    "malformed": "malformed_chunk_ignored",
}  # fmt: skip
"""What llmock has to say where the user is told instead of the model asked again: it would take an hour, or a part of
the answer is in the chat already. It cannot see that they are told."""


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    """Begins a conversation with these models."""
    begun: list[Talk] = []

    def one(*models: dict[str, Any], **more: Any) -> Talk:
        begun.append(Talk(tmp_path / f"w{len(begun)}", *models, **more))
        return begun[-1]

    yield one
    for talk in begun:
        await talk.close()


@pytest.fixture(scope="module")
def faults() -> Iterator[LlMock]:
    with llmock("--response-style", "hello") as server:
        yield server


@pytest.fixture
def broken(faults: LlMock) -> LlMock:
    faults.reset()
    return faults


@pytest.fixture(scope="module")
def fixtures() -> Iterator[AiMock]:
    if not has_aimock():
        lacking("no aimock: npm ci --prefix tests/node")
    error = {"error": {"message": "told so", "type": "invalid_request_error"}}
    with aimock(
        {"match": {"userMessage": "hello"}, "response": {"content": "Hello, all of you, from a model."}},
        {"match": {"userMessage": "bad request"}, "response": {**error, "status": 400}},
        {"match": {"userMessage": "no key"}, "response": {**error, "status": 401}},
        {"match": {"userMessage": "no model"}, "response": {**error, "status": 404}},
        {"match": {"userMessage": "fault"}, "response": {**error, "status": 500}},
        {"match": {"userMessage": "cut"}, "response": {"content": "one two three four five six seven eight nine ten"},
         "truncateAfterChunks": 4, "latency": 20},
        {"match": {"userMessage": "empty"}, "response": {"content": ""}},
        options=("-c", "5"),
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def fixed(fixtures: AiMock) -> AiMock:
    fixtures.forget()
    return fixtures


class TestAimock:
    async def test_an_answer_is_streamed_and_counted(self, fixed: AiMock, begin: Begin) -> None:
        talk = begin(model(fixed.url))
        heard = await talk.say("hello")
        assert heard.text == "Hello, all of you, from a model."
        assert heard.used["prompt_tokens"] > 10
        assert heard.used["completion_tokens"] > 3
        (body,) = fixed.requests()
        assert (body["model"], body["stream"]) == ("gpt-4o", True)
        assert "tools" not in body
        again = await talk.say("hello again")
        assert [message["role"] for message in fixed.requests()[-1]["messages"]] == [
            "system", "user", "assistant", "user",
        ]  # fmt: skip
        assert again.used["prompt_tokens"] > heard.used["prompt_tokens"]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("bad request", r"^127.0.0.1:\d+ refused the request for the model gpt-4o \(400\): told so$"),
            ("no key", r"^127.0.0.1:\d+ did not accept the key for the model gpt-4o \(401\): told so$"),
            ("no model", r"^127.0.0.1:\d+ knows no model gpt-4o \(404\): told so$"),
            ("fault", r"^127.0.0.1:\d+ has a fault of its own \(500\): told so$"),
            ("cut", r"^the answer of the model gpt-4o broke off in the middle"),
            ("empty", r"^the model gpt-4o answered with nothing$"),
        ],
    )
    async def test_a_fault_is_a_sentence_and_the_next_message_is_answered(
        self, fixed: AiMock, begin: Begin, text: str, sentence: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hermesd.workers.agents.llm.failures.BACKOFF", 0.01)
        talk = begin(model(fixed.url))
        with pytest.raises(TurnFailed, match=sentence):
            await talk.say(text)
        assert (await talk.say("hello")).text == "Hello, all of you, from a model."
        roles = [message["role"] for message in fixed.requests()[-1]["messages"]]
        assert roles == ["system", "user"], "a failed turn is no part of the conversation"


class TestLlmock:
    @pytest.mark.parametrize(
        ("fault", "sentence", "requests"),
        [
            ({"type": "fail", "status": 400, "message": "no such thing"}, r"\(400\): no such thing$", 1),
            ({"type": "fail", "status": 401}, r"did not accept the key .* \(401\)", 1),
            ({"type": "fail", "status": 429, "retry_after": 3600}, r"\(429\) and asks to wait for 3600 s", 1),
            ({"type": "fail", "status": 429, "retry_after": 0.2, "times": 3}, r"takes no more requests just now", 3),
            ({"type": "fail", "status": 500, "times": 3}, r"has a fault of its own \(500\)", 3),
            ({"type": "fail", "status": 503, "times": 3}, r"has a fault of its own \(503\)", 3),
            ({"type": "stream_fault", "kind": "disconnect", "after_chunks": 3}, "broke off in the middle", 1),
            ({"type": "stream_fault", "kind": "truncate", "after_chunks": 3}, r"broke off in the middle", 1),
            ({"type": "stream_fault", "kind": "malformed", "after_chunks": 3}, r"cannot be read", 1),
        ],
    )  # fmt: skip
    async def test_a_fault_is_a_sentence_and_the_next_message_is_answered(
        self, broken: LlMock, begin: Begin, fault: dict[str, Any], sentence: str, requests: int
    ) -> None:
        talk = begin(model(broken.url))
        broken.behave(fault)
        with pytest.raises(TurnFailed, match=sentence):
            await talk.say("hello")
        assert len(broken.requests()) == requests
        assert (await talk.say("are you there?")).text
        found = {line.partition(":")[0] for line in broken.verdict()}
        assert found == {TOLD[key] for key in TOLD if key == fault.get("kind", fault.get("retry_after"))}

    async def test_a_passing_fault_is_waited_for_as_long_as_was_asked(self, broken: LlMock, begin: Begin) -> None:
        talk = begin(model(broken.url))
        broken.behave({"type": "fail", "status": 429, "retry_after": 1})
        began = time.monotonic()
        heard = await talk.say("hello")
        assert time.monotonic() - began >= 1.0
        assert heard.text
        assert "asking again in 1 s" in heard.statuses[0]
        assert broken.verdict() == []

    async def test_a_tool_that_was_never_offered_and_arguments_that_are_no_json_go_back_to_the_model(
        self, broken: LlMock, begin: Begin
    ) -> None:
        async def now(arguments: dict[str, Any]) -> str:
            return "12:00"

        for kind in ("unknown_tool", "malformed_arguments"):
            broken.reset()
            broken.behave({"type": "tool_fault", "kind": kind})
            talk = begin(model(broken.url), functions={"time.now": now})
            heard = await talk.say("what time is it?")
            assert heard.text
            assert talk.functions.calls == []
            assert len(broken.requests()) == 2


class TestOddAnswers:
    async def test_a_name_that_is_repeated_in_every_delta(self, begin: Begin) -> None:
        async def weather(arguments: dict[str, Any]) -> str:
            return f"fine in {arguments['city']}"

        def part(text: str) -> dict[str, Any]:
            call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "sky_weather", "arguments": text}}
            return delta(tool_calls=[call])

        calling = [part(text) for text in ('{"ci', 'ty": "Pa', 'ris"}')]
        async with odd_endpoint(
            [*calling, delta("tool_calls")], [delta(content="It is fine."), delta("stop")]
        ) as endpoint:
            talk = begin(model(endpoint.url), functions={"sky.weather": weather})
            assert (await talk.say("the weather?")).text == "It is fine."
            assert talk.functions.calls == [("sky.weather", {"city": "Paris"})]
            assert endpoint.bodies[1]["messages"][-1] == {
                "role": "tool", "tool_call_id": "c1", "content": "fine in Paris",
            }  # fmt: skip

    @pytest.mark.parametrize(
        ("chunks", "sentence"),
        [
            ([{"id": "c", "object": "chat.completion.chunk", "choices": []}], "answered with nothing"),
            ([{"id": "c", "object": "chat.completion.chunk"}], "answered with nothing"),
            ([], "answered with nothing"),
            ([delta(content="half")], "broke off in the middle"),
            (['{"id": "c", "choi'], "cannot be read"),
            ([{"error": {"message": "gone", "code": 502}}], r"a fault of its own \(502\): gone"),
            (['"a text"'], "127.0.0.1|nothing"),
        ],
    )  # fmt: skip
    async def test_an_answer_that_is_none_is_a_sentence(
        self, begin: Begin, chunks: list[Any], sentence: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hermesd.workers.agents.llm.failures.BACKOFF", 0.01)
        async with odd_endpoint(chunks, chunks, chunks, [delta(content="I am back."), delta("stop")]) as endpoint:
            talk = begin(model(endpoint.url))
            with pytest.raises(TurnFailed, match=sentence):
                await talk.say("hello")
            del endpoint.left[:-1]
            assert (await talk.say("hello")).text == "I am back."

    async def test_nobody_there(self, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hermesd.workers.agents.llm.failures.BACKOFF", 0.01)
        with socket.socket() as held:  # so that nobody else gets it, and not listening
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            talk = begin(model(f"http://127.0.0.1:{port}/v1"))
            with pytest.raises(TurnFailed, match=rf"^127\.0\.0\.1:{port} cannot be reached: .*[Cc]onnect"):
                await talk.say("hello")


class TestStandIns:
    @pytest.mark.parametrize("status", [401, 429, 500, 503])
    async def test_another_provider_answers_and_the_primary_is_asked_first_again(
        self, broken: LlMock, fixed: AiMock, begin: Begin, status: int
    ) -> None:
        talk = begin(model(broken.url, "first"), model(fixed.url, "second"))
        broken.behave({"type": "fail", "status": status})
        heard = await talk.say("hello")
        assert heard.text == "Hello, all of you, from a model."
        assert heard.statuses[0].endswith("; second stands in")
        assert [record["model"] for record in broken.requests()] == ["first"]
        heard = await talk.say("hello")
        assert heard.text
        assert heard.text != "Hello, all of you, from a model."
        assert len(fixed.requests()) == 1

    async def test_a_bad_request_is_not_taken_elsewhere(self, broken: LlMock, fixed: AiMock, begin: Begin) -> None:
        talk = begin(model(broken.url), model(fixed.url))
        broken.behave({"type": "fail", "status": 400, "message": "messages: wrong shape"})
        with pytest.raises(TurnFailed, match="wrong shape"):
            await talk.say("hello")
        assert fixed.requests() == []

    async def test_when_all_fail_each_is_named(self, broken: LlMock, fixed: AiMock, begin: Begin) -> None:
        talk = begin(model(broken.url, "first"), model(fixed.url, "second"))
        broken.behave({"type": "fail", "status": 401})
        with pytest.raises(TurnFailed, match=r"first \(401\).*; .* no model second \(404\)"):
            await talk.say("no model")


class TestImages:
    async def test_a_model_that_takes_none_gets_the_text_and_that_is_remembered(
        self, broken: LlMock, begin: Begin, tmp_path: Path
    ) -> None:
        image = tmp_path / "a.png"
        image.write_bytes(PNG)
        talk = begin(model(broken.url))
        broken.behave({"type": "fail", "status": 400, "message": "image input is not supported"})
        files = [File(str(image), "a.png", "image/png"), File(str(image), "b.bin", "application/octet-stream")]
        assert (await talk.say("what is this?", files=files)).text
        assert len(broken.requests()) == 2
        assert (await talk.say("and now?")).text
        assert len(broken.requests()) == 3

    async def test_a_model_that_fails_with_and_without_is_not_taken_for_blind(
        self, fixed: AiMock, begin: Begin, tmp_path: Path
    ) -> None:
        image = tmp_path / "a.png"
        image.write_bytes(PNG)
        talk = begin(model(fixed.url))
        files = [File(str(image), "a.png", "image/png")]
        with pytest.raises(TurnFailed, match=r"\(400\)"):
            await talk.say("bad request", files=files)
        await talk.say("hello", files=files)
        contents = [body["messages"][-1]["content"] for body in fixed.requests()]
        kinds = [[part["type"] for part in one] if isinstance(one, list) else one for one in contents]
        assert kinds[0] == kinds[2] == ["text", "image_url"]
        assert "which this model cannot see" in kinds[1]
        url = fixed.requests()[2]["messages"][-1]["content"][1]["image_url"]["url"]
        assert url.startswith("data:image/png;base64,iVBOR")


async def test_an_interrupt_ends_the_request_at_once_and_what_was_said_stays(begin: Begin) -> None:
    with llmock("--response-style", "varied") as slow:
        # A part of the answer, and then nothing for longer than anybody waits.
        slow.behave({"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 600})
        talk = begin(model(slow.url))
        heard = Heard()
        turn = asyncio.create_task(talk.say("tell me a long story", out=heard))
        await heard.spoke.wait()
        talk.agent.interrupt("stopped by its user")
        async with asyncio.timeout(30.0):
            with pytest.raises(asyncio.CancelledError):
                await turn
        said = heard.text
        assert (await talk.say("go on")).text
        assert said in talk.session.history[1].text
