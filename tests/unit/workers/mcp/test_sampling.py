"""What a server may ask of its session's model, and how it is said in the model's words."""

import pytest

from hermesd.ipc.mcp import Sampling
from hermesd.workers.agents.contract import Sample, SampleCall
from hermesd.workers.errors import TurnFailed
from hermesd.workers.mcp.sampling import Sampler, request_of, result_of

ASK = {"messages": [{"role": "user", "content": {"type": "text", "text": "why?"}}], "maxTokens": 100}


class Model:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def can_sample(self):
        return True

    async def sample(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def calling():
    return Sample("", "m", "tool_calls", (SampleCall("1", "look", {"at": "it"}),))


async def test_a_minute_has_so_many_requests():
    now = [0.0]
    sampler = Sampler("far", Sampling(per_minute=2), Model(*[Sample("so", "m")] * 3), clock=lambda: now[0])
    assert isinstance(await sampler.answer(ASK), dict)
    now[0] = 30.0
    assert isinstance(await sampler.answer(ASK), dict)
    assert "more than 2 requests a minute" in await sampler.answer(ASK)
    now[0] = 60.0
    assert isinstance(await sampler.answer(ASK), dict)


async def test_answers_that_call_tools_end_after_so_many():
    model = Model(calling(), Sample("so", "m"), calling(), calling())
    sampler = Sampler("far", Sampling(tool_rounds=1), model)
    assert (await sampler.answer(ASK))["stopReason"] == "toolUse"
    assert (await sampler.answer(ASK))["stopReason"] == "endTurn"
    assert (await sampler.answer(ASK))["stopReason"] == "toolUse"
    assert "max_tool_rounds" in await sampler.answer(ASK)


@pytest.mark.parametrize(
    ("error", "said"), [(TurnFailed("no model is configured"), "no model is configured"), (KeyError("x"), "KeyError")]
)
async def test_a_model_that_fails_is_a_sentence(error, said):
    assert said in await Sampler("far", Sampling(), Model(error)).answer(ASK)


async def test_a_model_that_takes_too_long_is_a_sentence():
    class Slow(Model):
        async def sample(self, request):
            raise TimeoutError

    assert "did not answer within 30 s" in await Sampler("far", Sampling(), Slow()).answer(ASK)


@pytest.mark.parametrize(
    ("limits", "hints", "model"),
    [
        (Sampling(), ["a"], ""),
        (Sampling(allowed_models=("b", "a")), ["x", "a", "b"], "a"),
        (Sampling(model="mine", allowed_models=("a",)), ["a"], "mine"),
    ],
)
def test_a_hint_chooses_only_what_is_allowed(limits, hints, model):
    params = {**ASK, "modelPreferences": {"hints": [{"name": hint} for hint in hints]}}
    assert request_of("far", params, limits).model == model


def test_a_request_is_in_the_words_of_the_model():
    params = {
        "systemPrompt": "Be brief.", "maxTokens": 9000, "temperature": 0.5, "stopSequences": ["END"],
        "tools": [{"name": "look", "inputSchema": {"type": "object"}}], "toolChoice": {"mode": "required"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "see"},
                                         {"type": "image", "mimeType": "image/png", "data": "AAAA"}]},
            {"role": "assistant", "content": {"type": "tool_use", "id": "1", "name": "look", "input": {"at": "it"}}},
            {"role": "user", "content": [{"type": "tool_result", "toolUseId": "1",
                                          "content": [{"type": "text", "text": "a swan"}]}]},
            {"role": "user", "content": {"type": "audio", "mimeType": "audio/wav", "data": "AAAA"}},
        ],
    }  # fmt: skip
    request = request_of("far", params, Sampling(max_tokens=4096))
    assert (request.max_tokens, request.temperature, request.stop, request.tool_choice) == (
        4096, 0.5, ("END",), "required",
    )  # fmt: skip
    assert request.tools[0]["function"] == {"name": "look", "description": "", "parameters": {"type": "object"}}
    system, picture, call, result, audio = request.messages
    assert system == {"role": "system", "content": "Be brief."}
    assert picture["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    assert call["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "it"}'}
    assert result == {"role": "tool", "tool_call_id": "1", "content": "a swan"}
    assert "audio" in audio["content"]


def test_an_answer_is_in_the_words_of_the_protocol():
    assert result_of(Sample("so", "m", "length")) == {
        "role": "assistant", "model": "m", "stopReason": "maxTokens", "content": {"type": "text", "text": "so"},
    }  # fmt: skip
    assert result_of(calling())["content"] == [{"type": "tool_use", "id": "1", "name": "look", "input": {"at": "it"}}]
