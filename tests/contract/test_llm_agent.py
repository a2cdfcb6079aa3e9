"""What the agent ``llm`` does with its tools, its user and its memory; its model is aimock."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.aimock import AiMock, aimock, has_aimock
from harness.lacking import lacking
from harness.llm_agent import Heard, Talk, model
from harness.odd_endpoint import Refusal, delta, odd_endpoint

from hermesd.ipc.messages import Entry, File
from hermesd.workers.agents.contract import ToolResult
from hermesd.workers.agents.llm import failures
from hermesd.workers.agents.llm.window import size_of
from hermesd.workers.errors import TurnFailed
from hermesd.workers.mcp.errors import ServerDied

Begin = Callable[..., Talk]


def call(name: str, number: int = 1, **arguments: Any) -> dict[str, Any]:
    return {"id": f"call_{name}_{number}", "name": name, "arguments": arguments}


def asks(text: str, *calls: dict[str, Any], content: str = "") -> dict[str, Any]:
    """The model answers this message with tool calls."""
    response: dict[str, Any] = {"toolCalls": list(calls)}
    return {"match": {"userMessage": text, "hasToolResult": False}, "response": {**response, "content": content}}


def answers(text: str, content: str) -> dict[str, Any]:
    """And this, once it has their results, with words."""
    return {"match": {"userMessage": text, "hasToolResult": True}, "response": {"content": content}}


FACT = "my cat is called Zephyrine"
SUMMARY = "Ann says that her cat is called Zephyrine; much about swans besides."

FIXTURES = [
    {"match": {"systemMessage": "Summarise the conversation"}, "response": {"content": SUMMARY}},
    asks("one tool", call("time_now"), content="Let me look."),
    answers("one tool", "It is noon."),
    asks("two tools", call("time_now"), call("sky_weather", city="Paris")),
    answers("two tools", "Noon, and fine."),
    asks("delete it", call("fs_delete", path="/a")),
    answers("delete it", "That is that."),
    {"match": {"userMessage": "for ever"}, "response": {"toolCalls": [call("time_now")]}},
    {"match": {"userMessage": "as many steps as you may"}, "response": {"content": "I stop here."}},
    {"match": {"userMessage": "swan"}, "response": {"content": "Swans are " + "white birds " * 90}},
    {"match": {"userMessage": "but quickly"}, "response": {"content": "Quickly, then."}},
    {"match": {}, "response": {"content": "As you say."}},
]


@pytest.fixture(scope="module")
def shared() -> Iterator[AiMock]:
    if not has_aimock():
        lacking("no aimock: npm ci --prefix tests/node")
    # The one for the last step stands before the one that calls for ever.
    with aimock(*sorted(FIXTURES, key=lambda one: one["match"].get("userMessage") != "as many steps as you may")) as up:
        yield up


@pytest.fixture
def endpoint(shared: AiMock) -> AiMock:
    shared.forget()
    return shared


@pytest.fixture
async def begin(endpoint: AiMock, tmp_path: Path) -> AsyncIterator[Begin]:
    """Begins a conversation; the same ``place`` is the same conversation in another worker."""
    begun: list[Talk] = []

    def one(place: str = "w", **more: Any) -> Talk:
        found = model(endpoint.url, context_length=more.pop("context_length", 0))
        begun.append(Talk(tmp_path / "work" / place, found, **more))
        return begun[-1]

    yield one
    for talk in begun:
        await talk.close()


async def noon(arguments: dict[str, Any]) -> str:
    return "12:00"


class TestTools:
    async def test_a_result_goes_back_and_the_answer_follows_what_was_said_before(
        self, endpoint: AiMock, begin: Begin
    ) -> None:
        talk = begin(functions={"time.now": noon})
        heard = await talk.say("one tool")
        assert heard.text == "Let me look.\n\nIt is noon."
        assert heard.tools == [("time.now", "started"), ("time.now", "done")]
        first, second = endpoint.requests()
        assert first["tools"][0]["function"]["name"] == "time_now"
        assert second["messages"][-1] == {"role": "tool", "tool_call_id": "call_time_now_1", "content": "12:00"}
        await talk.say("thanks")
        roles = [message["role"] for message in endpoint.requests()[-1]["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "assistant", "user"], "the calls are remembered"

    async def test_calls_run_side_by_side_and_their_results_keep_the_order(
        self, endpoint: AiMock, begin: Begin
    ) -> None:
        both = asyncio.Barrier(2)
        weather_first = asyncio.Event()

        async def now(arguments: dict[str, Any]) -> str:
            await both.wait()
            await weather_first.wait()
            return "12:00"

        async def weather(arguments: dict[str, Any]) -> str:
            await both.wait()
            weather_first.set()
            return "fine"

        talk = begin(functions={"time.now": now, "sky.weather": weather})
        assert (await talk.say("two tools")).text == "Noon, and fine."
        assert [message["content"] for message in endpoint.requests()[-1]["messages"][-2:]] == ["12:00", "fine"]

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            (ToolResult("no such zone", is_error=True), "The tool reports an error: no such zone"),
            (ServerDied("time", "now", "exit status 3"), "MCP server 'time' ended during 'now': exit status 3"),
        ],
    )
    async def test_an_error_of_a_tool_is_the_models_to_deal_with(
        self, endpoint: AiMock, begin: Begin, fault: Any, told: str
    ) -> None:
        async def now(arguments: dict[str, Any]) -> ToolResult:
            if isinstance(fault, Exception):
                raise fault
            assert isinstance(fault, ToolResult)
            return fault

        heard = await begin(functions={"time.now": now}).say("one tool")
        assert heard.tools == [("time.now", "started"), ("time.now", "failed")]
        assert endpoint.requests()[-1]["messages"][-1]["content"] == told

    async def test_after_the_last_step_it_has_to_answer_without_tools(self, endpoint: AiMock, begin: Begin) -> None:
        talk = begin(functions={"time.now": noon}, max_turns=3)
        assert (await talk.say("for ever")).text == "I stop here."
        bodies = endpoint.requests()
        assert len(bodies) == 4
        assert ["tools" in body for body in bodies] == [True, True, True, False]
        assert len(talk.functions.calls) == 3

    async def test_an_interrupt_ends_the_tool_at_once_and_the_next_message_is_answered(
        self, endpoint: AiMock, begin: Begin
    ) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def now(arguments: dict[str, Any]) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return ""

        talk = begin(functions={"time.now": now})
        heard = Heard()
        turn = asyncio.create_task(talk.say("one tool", out=heard))
        await begun.wait()
        talk.agent.interrupt("stopped by its user")
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert ended.is_set()
        assert heard.text == "Let me look."
        assert heard.tools[-1] == ("time.now", "failed")
        assert (await talk.say("thanks")).text == "As you say."
        messages = endpoint.requests()[-1]["messages"]
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]
        assert "interrupted" in messages[3]["content"]


class TestSteering:
    async def test_a_word_between_two_steps_is_a_message_of_the_user(self, endpoint: AiMock, begin: Begin) -> None:
        async def now(arguments: dict[str, Any]) -> str:
            assert talk.agent.steer("but quickly")
            return "12:00"

        talk = begin(functions={"time.now": now})
        assert (await talk.say("one tool")).text == "Let me look.\n\nQuickly, then."
        assert endpoint.requests()[-1]["messages"][-1] == {"role": "user", "content": "but quickly"}
        assert not talk.agent.steer("too late"), "no turn runs"

    async def test_nothing_is_no_word(self, endpoint: AiMock, begin: Begin) -> None:
        async def now(arguments: dict[str, Any]) -> str:
            assert not talk.agent.steer(" ")
            return "12:00"

        talk = begin(functions={"time.now": now})
        assert (await talk.say("one tool")).text == "Let me look.\n\nIt is noon."

    async def test_a_word_during_the_last_answer_has_an_answer_of_its_own(self, begin: Begin) -> None:
        class Steering(Heard):
            async def delta(self, text: str) -> None:
                if not self.text:
                    assert talk.agent.steer("but quickly")
                await super().delta(text)

        talk = begin()
        assert (await talk.say("so it is", out=Steering())).text == "As you say.\n\nQuickly, then."


class TestApprovals:
    async def delete(self, arguments: dict[str, Any]) -> str:
        return "deleted"

    def talk(self, begin: Begin, **more: Any) -> Talk:
        return begin(functions={"fs.delete": self.delete, "time.now": noon}, ask_before=["fs_del*"], **more)

    async def test_only_marked_tools_are_asked_about_with_what_they_would_get(self, begin: Begin) -> None:
        talk = self.talk(begin)
        heard = await talk.say("one tool")
        assert heard.questions == []
        heard = await talk.say("delete it", out=Heard(["once"]))
        assert heard.questions == [
            ('May I call fs.delete with {"path":"/a"}?', ("once", "session", "always", "deny"), 300.0)
        ]
        assert talk.functions.calls[-1] == ("fs.delete", {"path": "/a"})
        assert len((await talk.say("delete it", out=Heard(["once"]))).questions) == 1

    @pytest.mark.parametrize(("choice", "told"), [("deny", "denied"), ("", "Nobody answered")])
    async def test_without_a_yes_nothing_is_called(
        self, endpoint: AiMock, begin: Begin, choice: str, told: str
    ) -> None:
        talk = self.talk(begin)
        heard = await talk.say("delete it", out=Heard([choice]))
        assert talk.functions.calls == []
        assert heard.tools[-1] == ("fs.delete", "failed")
        assert told in endpoint.requests()[-1]["messages"][-1]["content"]
        assert heard.text == "That is that."

    async def test_session_holds_for_the_conversation_and_always_for_the_chat(self, begin: Begin) -> None:
        await self.talk(begin, place="one").say("delete it", out=Heard(["session"]))
        assert not (await self.talk(begin, place="one").say("delete it")).questions, "also in its next worker"
        asked = await self.talk(begin, place="two").say("delete it", out=Heard(["always"]))
        assert asked.questions, "another conversation"
        assert not (await self.talk(begin, place="three").say("delete it")).questions
        other = self.talk(begin, place="four", key="agent:main:fake:dm:b")
        assert (await other.say("delete it", out=Heard(["deny"]))).questions, "another chat"

    async def test_calls_side_by_side_are_asked_about_one_by_one(self, begin: Begin) -> None:
        class Asking(Heard):
            open = 0

            async def ask(self, question: str, choices: Any = (), timeout: float = 300.0) -> str:
                self.open += 1
                assert self.open == 1
                await asyncio.sleep(0)
                self.open -= 1
                return await super().ask(question, choices, timeout)

        async def weather(arguments: dict[str, Any]) -> str:
            return "fine"

        talk = begin(functions={"time.now": noon, "sky.weather": weather}, ask_before=["*"])
        heard = await talk.say("two tools", out=Asking(["once", "deny"]))
        assert len(heard.questions) == 2
        assert len(talk.functions.calls) == 1


class TestSteps:
    async def test_a_turn_that_was_lost_goes_on_and_no_finished_tool_runs_twice(
        self, endpoint: AiMock, begin: Begin
    ) -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        async def weather(arguments: dict[str, Any]) -> str:
            if not reached.is_set():
                reached.set()
                await never.wait()
            return "fine"

        functions = {"time.now": noon, "sky.weather": weather}
        lost = begin(functions=functions)
        turn = asyncio.create_task(lost.say("two tools"))
        await reached.wait()
        # As when the worker dies: nobody says that the turn is over. What it has on disk stays as it is.
        steps = lost.session.workdir / ".llm" / "steps.jsonl"
        left = steps.read_bytes()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        steps.write_bytes(left + b'{"role": "tool", "tool_c')
        again = begin(functions=functions)
        heard = await again.say("two tools")
        assert heard.text == "Noon, and fine."
        assert [name for name, _ in lost.functions.calls] == ["time.now", "sky.weather"]
        assert [name for name, _ in again.functions.calls] == ["sky.weather"], "the one that had not finished"
        assert [message["content"] for message in endpoint.requests()[-1]["messages"][-2:]] == ["12:00", "fine"]
        assert not steps.exists()

    async def test_a_turn_that_failed_goes_on_too(self, begin: Begin) -> None:
        async def breaks(arguments: dict[str, Any]) -> str:
            raise RuntimeError("a bug of the tool's own")

        talk = begin(functions={"time.now": noon, "sky.weather": breaks})
        with pytest.raises(RuntimeError, match="a bug"):
            await talk.say("two tools")
        mended = begin(functions={"time.now": noon, "sky.weather": noon})
        assert (await mended.say("two tools")).text == "Noon, and fine."
        assert [name for name, _ in mended.functions.calls] == ["sky.weather"]

    async def test_another_message_begins_from_the_beginning(self, endpoint: AiMock, begin: Begin) -> None:
        async def breaks(arguments: dict[str, Any]) -> str:
            raise RuntimeError("a bug of the tool's own")

        talk = begin(functions={"time.now": breaks})
        with pytest.raises(RuntimeError):
            await talk.say("one tool")
        assert (await talk.say("something else")).text == "As you say."
        again = begin(functions={"time.now": noon})
        await again.say("one tool")
        assert [name for name, _ in again.functions.calls] == ["time.now"]

    async def test_a_repeated_message_that_was_answered_is_answered_anew(self, begin: Begin) -> None:
        talk = begin(functions={"time.now": noon})
        await talk.say("one tool")
        del talk.session.history[-2:]
        await talk.say("one tool")
        assert len(talk.functions.calls) == 2


LLAMA_CPP = Refusal(
    400,
    {
        "code": 400, "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error", "n_prompt_tokens": 5017, "n_ctx": 2048,
    },
)  # fmt: skip
"""What llama.cpp's server says of a prompt that is longer than what it was started with."""


class TestSmallerWindow:
    async def test_a_server_with_a_small_window_is_asked_again_with_less_and_remembered(self, tmp_path: Path) -> None:
        fine = [delta(content="Well."), delta(finish="stop")]
        long = [delta(content="white birds " * 300), delta(finish="stop")]
        async with odd_endpoint(long, long, long, LLAMA_CPP, *[fine] * 8) as server:
            talk = Talk(tmp_path / "w", model(server.url))
            for number in range(3):
                await talk.say(f"about swan {number}")
            heard = await talk.say("and now?")
            await talk.say("once more")
            await talk.close()
        assert heard.text == "Well."
        refused, *later = server.bodies[3:]
        assert size_of(refused["messages"]) / 4 > 2048
        assert all(size_of(body["messages"]) / 4 <= 2048 * 0.75 + 20 for body in later), "no request over it again"

    async def test_a_message_that_is_too_long_in_itself_is_told_in_a_sentence(self, tmp_path: Path) -> None:
        async with odd_endpoint(LLAMA_CPP) as server:
            talk = Talk(tmp_path / "w", model(server.url))
            with pytest.raises(TurnFailed, match="does not fit into the window of the model gpt-4o"):
                await talk.say("a swan " * 2000)
            await talk.close()

    async def test_what_is_too_long_for_a_summary_is_summarised_in_smaller_parts(self, tmp_path: Path) -> None:
        long = [delta(content="white birds " * 300), delta(finish="stop")]
        fine = [delta(content="Well."), delta(finish="stop")]
        smaller = Refusal(400, {**LLAMA_CPP.error, "n_ctx": 1024})
        async with odd_endpoint(*[long] * 4, smaller, *[fine] * 9) as server:
            talk = Talk(tmp_path / "w", model(server.url, context_length=4096))
            for number in range(4):
                await talk.say(f"about swan {number}")
            heard = await talk.say("and now?")
            await talk.close()
        assert heard.text == "Well."
        refused, *later = server.bodies[4:]
        assert "Summarise" in refused["messages"][0]["content"]
        assert len(later) > 1
        assert all(size_of(body["messages"]) <= 1024 * 3 for body in later), "no request over it again"

    async def test_a_stand_in_with_a_smaller_window_gets_a_summary_that_it_can_make(self, tmp_path: Path) -> None:
        long = [delta(content="white birds " * 300), delta(finish="stop")]
        fine = [delta(content="Well."), delta(finish="stop")]
        async with (
            odd_endpoint(*[long] * 4, Refusal(503, {"message": "asleep"})) as server,
            odd_endpoint(*[fine] * 9) as small,
        ):
            models = model(server.url, context_length=4096), model(small.url, context_length=1024)
            talk = Talk(tmp_path / "w", *models)
            for number in range(4):
                await talk.say(f"about swan {number}")
            assert (await talk.say("and now?")).text == "Well."
            await talk.close()
        assert all(size_of(body["messages"]) <= 1024 * 3 for body in small.bodies)

    async def test_a_model_that_has_no_summary_to_give_costs_no_turn(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(failures, "BACKOFF", 0.01)
        long = [delta(content="white birds " * 300), delta(finish="stop")]
        nothing = [delta(finish="stop")]
        fine = [delta(content="Well."), delta(finish="stop")]
        async with odd_endpoint(*[long] * 4, *[nothing] * 3, fine) as server:
            talk = Talk(tmp_path / "w", model(server.url, context_length=4096))
            for number in range(4):
                await talk.say(f"about swan {number}")
            assert (await talk.say("and now?")).text == "Well."
            await talk.close()
        assert "about swan 0" in server.bodies[-1]["messages"][0]["content"], "the beginnings of what was said"


class TestImages:
    async def test_a_refusal_of_the_moment_blinds_no_model(self, tmp_path: Path) -> None:
        picture = tmp_path / "photo.png"
        picture.write_bytes(b"\x89PNG\r\n")
        photo = File(str(picture), "photo.png", "image/png")
        fine = [delta(content="Well."), delta(finish="stop")]
        tool = [delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "time_now", "arguments": "{}"}}]),
                delta(finish="tool_calls")]  # fmt: skip
        moment = Refusal(400, {"message": "could not parse the request"})
        broken = Refusal(400, {"message": "image.source.base64: Could not process image"})
        blind = Refusal(400, {"message": "image_url is only supported by certain models"})
        async with odd_endpoint(moment, tool, fine, broken, fine, fine, blind, fine, fine) as server:
            talk = Talk(tmp_path / "w", model(server.url), functions={"time.now": noon})
            for text in ("look", "again", "once more", "and now", "at last"):
                await talk.say(text, files=[photo])
            await talk.close()
        seen = ["image_url" in json.dumps(body["messages"]) for body in server.bodies]
        assert seen == [True, False, False, True, False, True, True, False, False]

    async def test_a_sticker_is_described_by_the_model_and_one_that_sees_nothing_says_nothing(
        self, tmp_path: Path
    ) -> None:
        picture = tmp_path / "sticker.png"
        picture.write_bytes(b"\x89PNG\r\n")
        blind = Refusal(400, {"message": "image input is not supported by this model"})
        async with odd_endpoint([delta(content=" A waving owl. "), delta(finish="stop")], blind,
                                [delta(content="I see nothing."), delta(finish="stop")]) as server:  # fmt: skip
            talk = Talk(tmp_path / "w", model(server.url))
            assert await talk.agent.describe(str(picture)) == "A waving owl."
            parts = server.bodies[0]["messages"][0]["content"]
            assert parts[1]["image_url"]["url"].startswith("data:image/png;base64,")
            assert await talk.agent.describe(str(picture)) == ""
            assert await talk.agent.describe(str(picture)) == "", "not asked again"
            assert await talk.agent.describe(str(tmp_path / "none.tgs")) == ""
            await talk.close()
        assert len(server.bodies) == 3


class TestSnapshot:
    async def test_the_next_worker_knows_the_tool_calls_and_drops_them_when_the_conversation_went_another_way(
        self, endpoint: AiMock, begin: Begin
    ) -> None:
        talk = begin(functions={"time.now": noon})
        await talk.say("one tool")
        kept = talk.agent.snapshot()
        for history, roles in (
            (talk.session.history, ["system", "user", "assistant", "tool", "assistant", "user"]),
            ([Entry("user", "hello"), Entry("assistant", "hi")], ["system", "user", "assistant", "user"]),
        ):
            woken = begin(functions={"time.now": noon}, history=history)
            woken.agent.restore(kept)
            await woken.say("thanks")
            assert [message["role"] for message in endpoint.requests()[-1]["messages"]] == roles


class TestWindow:
    async def test_80_turns_in_a_window_of_8k(
        self, endpoint: AiMock, begin: Begin, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "hermesd.llm")

        async def long(arguments: dict[str, Any]) -> str:
            return "a line of a long file\n" * 2000

        talk = begin(functions={"time.now": long}, context_length=8192)
        await talk.say(f"Remember: {FACT}. A swan is a bird.")
        for number in range(79):
            text = "one tool" if number % 10 == 5 else f"What else about swan number {number}? " + "Tell me more. " * 60
            assert (await talk.say(text)).text
        bodies = endpoint.requests()
        summarised = [body for body in bodies if "Summarise" in body["messages"][0]["content"]]
        assert len(summarised) > 3
        for body in bodies:
            characters = sum(len(str(message["content"] or "")) for message in body["messages"])
            tokens = (characters + len(json.dumps(body.get("tools", [])))) / 4
            assert tokens <= 8192 * 0.8, f"a request of {tokens} tokens leaves too little for the answer"
            assert size_of(body["messages"]) / 4 <= 8192
        assert all("Zephyrine" in body["messages"][1]["content"] for body in summarised), "in what is summarised"
        assert "Zephyrine" in bodies[-1]["messages"][0]["content"]
        told = [record.getMessage() for record in caplog.records]
        assert any("tool results were shortened" in line for line in told)
        assert any("turns of some" in line and "are now a summary of" in line for line in told)
        again = begin(context_length=8192, history=talk.session.history)
        endpoint.forget()
        await again.say("and now, a swan?")
        (body,) = endpoint.requests()
        assert "Zephyrine" in body["messages"][0]["content"], "its next worker has the summary"

    async def test_a_message_that_cannot_fit_is_refused_with_figures(self, begin: Begin) -> None:
        talk = begin(context_length=1000)
        with pytest.raises(TurnFailed, match=r"does not fit into the window .* has some \d+ tokens, .* may have 750"):
            await talk.say("swan " * 2000)
        assert (await talk.say("hello")).text == "As you say."

    async def test_many_steps_of_one_turn_are_folded(self, endpoint: AiMock, begin: Begin) -> None:
        async def long(arguments: dict[str, Any]) -> str:
            return "a line of a long file\n" * 20

        talk = begin(functions={"time.now": long}, context_length=1600, max_turns=40)
        assert (await talk.say("for ever")).text == "I stop here."
        assert max(size_of(body["messages"]) / 4 for body in endpoint.requests()) <= 1600
        assert len(talk.functions.calls) == 40


async def test_a_new_worker_reads_the_conversation_from_the_history(endpoint: AiMock, begin: Begin) -> None:
    talk = begin(history=[Entry("user", "I am Ann."), Entry("assistant", "Hello Ann.")])
    await talk.say("who am I?")
    assert [message["content"] for message in endpoint.requests()[-1]["messages"][1:]] == [
        "I am Ann.", "Hello Ann.", "who am I?",
    ]  # fmt: skip


async def test_no_message_without_text_is_sent(endpoint: AiMock, begin: Begin) -> None:
    talk = begin(history=[Entry("user", ""), Entry("assistant", "")])
    await talk.say("what was on it?")
    await talk.say("")
    for body in endpoint.requests():
        assert all(message["content"].strip() for message in body["messages"])
    assert len(endpoint.requests()[-1]["messages"]) == 6


async def test_usage_of_all_turns_is_added_up_over_workers(begin: Begin) -> None:
    first = begin()
    one = await first.say("hello")
    two = await begin().say("hello")
    kept = json.loads((first.session.workdir / ".llm" / "state.json").read_text())["usage"]
    assert kept["prompt_tokens"] == one.used["prompt_tokens"] + two.used["prompt_tokens"]
