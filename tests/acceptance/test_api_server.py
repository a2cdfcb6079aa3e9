"""The OpenAI-compatible way in, as OpenAI's own client and a plain HTTP client see the installed hermesd."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Any

import openai
import pytest
from harness.daemon import Daemon, turn_runs
from harness.running import TIME, running, wait_until
from openai import AsyncOpenAI, OpenAI

KEY = "key-of-this-test"
API = {"enabled": True, "api_key": KEY, "extra": {"port": 0}}
CONFIG: dict[str, Any] = {"platforms": {"api_server": API}, "mcp_servers": {"time": TIME}}
MODEL = "hermes-agent"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(CONFIG) as made:
        yield made


def url(daemon: Daemon) -> str:
    """As a person finds it: in the status."""
    platforms = daemon.json("status")["platforms"]
    return str(next(platform["detail"] for platform in platforms if platform["name"] == "api_server"))


def client(daemon: Daemon, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=f"{url(daemon)}/v1", api_key=key)


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def ask(daemon: Daemon, text: str, session: str = "") -> str:
    headers = {"X-Hermes-Session-Id": session} if session else {}
    with client(daemon) as api:
        answer = api.chat.completions.create(model=MODEL, messages=user(text), extra_headers=headers)
    return answer.choices[0].message.content or ""


def key_of(session: str) -> str:
    return f"agent:main:api_server:dm:{session}"


class Stream:
    """A streamed answer read line by line, with the comments that OpenAI's client hides."""

    def __init__(self, daemon: Daemon, text: str, session: str):
        self.connection = http.client.HTTPConnection(url(daemon).removeprefix("http://"), timeout=30)
        headers = {
            "Content-Type": "application/json", "Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": session
        }  # fmt: skip
        body = json.dumps({"model": MODEL, "messages": user(text), "stream": True})
        self.connection.request("POST", "/v1/chat/completions", body, headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.comments: list[str] = []
        self.content = ""
        self.error: dict[str, Any] | None = None

    def until(self, comment: str) -> None:
        """Read up to a comment that holds this."""
        while comment not in (self.comments or [""])[-1]:
            assert self._line(), f"the stream ended: {self.comments}, {self.content!r}"

    def rest(self) -> str:
        while self._line():
            pass
        return self.content

    def hang_up(self) -> None:
        self.response.close()
        self.connection.close()

    close = hang_up

    def _line(self) -> bool:
        line = self.response.readline().decode().rstrip("\n")
        if line == "data: [DONE]":
            return False
        if line.startswith(":"):
            self.comments.append(line[1:].strip())
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
            self.error = data.get("error", self.error)
            self.content += "".join(choice["delta"].get("content") or "" for choice in data.get("choices", ()))
        else:
            assert not line, line
        return True


def wait_state(daemon: Daemon, session: str, state: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        return next(
            (
                row
                for row in daemon.workers()
                if (row["session"], row["state"]) == (key_of(session), state) and (state != "busy" or turn_runs(row))
            ),
            None,
        )

    row: dict[str, Any] = wait_until(found, what=f"{session} is {state}")
    return row


def test_it_lists_its_model(daemon: Daemon) -> None:
    with client(daemon) as api:
        assert [model.id for model in api.models.list()] == [MODEL]


def test_a_plain_request_is_answered_with_usage(daemon: Daemon) -> None:
    with client(daemon) as api:
        answer = api.chat.completions.create(model=MODEL, messages=user("hello"))
    assert (answer.choices[0].message.content or "").startswith("You said: hello\n")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_streamed_answer_comes_in_parts_with_usage_at_its_end(daemon: Daemon) -> None:
    with client(daemon) as api:
        chunks = list(
            api.chat.completions.create(
                model=MODEL, messages=user("!stream 5000"), stream=True, stream_options={"include_usage": True}
            )
        )
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(parts) == "".join(f"{number} " for number in range(1, 5001))
    assert len(parts) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_an_agent_calls_a_real_tool_for_a_request(daemon: Daemon) -> None:
    assert json.loads(ask(daemon, '!call time.get_current_time {"timezone": "UTC"}'))["timezone"] == "UTC"


def test_a_session_id_continues_a_session_in_the_same_worker(daemon: Daemon) -> None:
    ask(daemon, "first", "continued")
    worker = daemon.worker_of(key_of("continued"))
    assert "This is message 2 to this worker, and I remember 1 answered" in ask(daemon, "second", "continued")
    assert daemon.worker_of(key_of("continued"))["pid"] == worker["pid"]
    assert "This is message 1 to this worker." in ask(daemon, "first", "another")


def test_a_session_is_remembered_across_a_restart_of_hermesd(daemon: Daemon) -> None:
    config = {**CONFIG, "mcp_servers": {}}
    with running(config) as other:
        ask(other, "remember the swan", "lasting")
        other.stop()
        other.start()
        history = ask(other, "!history", "lasting")
    assert history.splitlines()[1] == "user: remember the swan"


def test_a_stateless_request_brings_its_own_history_and_its_worker_ends_with_the_reply(daemon: Daemon) -> None:
    messages: Any = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "what is a swan?"},
        {"role": "assistant", "content": "a bird"},
        {"role": "user", "content": "!history"},
    ]
    before = {row["session"] for row in daemon.workers()}
    with client(daemon) as api:
        answer = api.chat.completions.create(model=MODEL, messages=messages)
    assert (answer.choices[0].message.content or "").splitlines() == [
        "3 entries, the last 3:", "system: be short", "user: what is a swan?", "assistant: a bird",
    ]  # fmt: skip
    wait_until(lambda: {row["session"] for row in daemon.workers()} <= before, what="its worker has ended")


async def test_50_sessions_at_once_are_each_answered_by_a_worker_of_their_own(daemon: Daemon) -> None:
    async with AsyncOpenAI(base_url=f"{url(daemon)}/v1", api_key=KEY) as api:

        async def talk(number: int) -> list[str]:
            said = []
            for text in (f"I am {number}", "!whoami", "!history"):
                answer = await api.chat.completions.create(
                    model=MODEL, messages=user(text), extra_headers={"X-Hermes-Session-Id": f"many-{number}"}
                )
                said.append(answer.choices[0].message.content or "")
            return said

        conversations = await asyncio.gather(*(talk(number) for number in range(50)))
    pids = set()
    for number, (first, who, history) in enumerate(conversations):
        assert first.startswith(f"You said: I am {number}\n")
        assert f"Session {key_of(f'many-{number}')} " in who
        pids.add(who.rpartition("pid ")[2])
        assert history.splitlines()[:2] == ["4 entries, the last 4:", f"user: I am {number}"]
    assert len(pids) == 50


def test_a_wrong_key_is_refused(daemon: Daemon) -> None:
    with client(daemon, "wrong") as api, pytest.raises(openai.AuthenticationError) as raised:
        api.chat.completions.create(model=MODEL, messages=user("hello"))
    assert raised.value.code == "invalid_api_key"


def test_a_request_that_is_no_json_gets_an_error_object(daemon: Daemon) -> None:
    with closing(http.client.HTTPConnection(url(daemon).removeprefix("http://"), timeout=10)) as connection:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request("POST", "/v1/chat/completions", '{"model": ', headers)
        response = connection.getresponse()
        assert response.status == 400
        error = json.loads(response.read())["error"]
    assert error["type"] == "invalid_request_error"
    assert "JSON" in error["message"]


def test_an_agents_failure_is_an_error_object_and_is_not_repeated_by_the_client(daemon: Daemon) -> None:
    ask(daemon, "first", "failing")
    with client(daemon) as api, pytest.raises(openai.InternalServerError) as raised:
        api.chat.completions.create(
            model=MODEL, messages=user("!fail on purpose"), extra_headers={"X-Hermes-Session-Id": "failing"}
        )
    assert "RuntimeError: on purpose" in raised.value.message
    assert "This is message 3 to this worker" in ask(daemon, "third", "failing")


def test_hanging_up_interrupts_the_turn_and_keeps_the_worker(daemon: Daemon) -> None:
    with closing(Stream(daemon, "!sleep 600", "impatient")) as stream:
        stream.until("sleeping for 600 s")
        worker = wait_state(daemon, "impatient", "busy")
        stream.hang_up()
    wait_state(daemon, "impatient", "idle")
    assert "This is message 2 to this worker" in ask(daemon, "second", "impatient")
    assert daemon.worker_of(key_of("impatient"))["pid"] == worker["pid"]


def kill(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def test_a_worker_killed_during_a_request_is_an_error_object_and_the_session_goes_on(daemon: Daemon) -> None:
    ask(daemon, "remember the swan", "killed")
    outcome: SimpleQueue[Exception | str] = SimpleQueue()

    def request() -> None:
        try:
            outcome.put(ask(daemon, "!sleep 600", "killed"))
        except openai.APIError as error:
            outcome.put(error)

    thread = threading.Thread(target=request)
    thread.start()
    kill(wait_state(daemon, "killed", "busy")["pid"])
    thread.join(20)
    error = outcome.get(timeout=1)
    assert isinstance(error, openai.InternalServerError), error
    assert "killed by SIGKILL" in error.message
    assert "user: remember the swan" in ask(daemon, "!history", "killed")
    assert daemon.worker_of(key_of("killed"))["restarts"] == 1


def test_a_worker_killed_during_a_stream_ends_it_with_an_error_object(daemon: Daemon) -> None:
    with closing(Stream(daemon, "!sleep 600", "cut")) as stream:
        stream.until("sleeping for 600 s")
        kill(wait_state(daemon, "cut", "busy")["pid"])
        assert stream.rest() == ""
    assert stream.error is not None
    assert "killed by SIGKILL" in stream.error["message"]


def test_a_waiting_turn_is_told_its_place_in_a_comment_and_never_in_its_content() -> None:
    with running({"hermesd": {"workers": {"max_turns": 1}}, "platforms": {"api_server": API}}) as daemon:
        with closing(Stream(daemon, "!sleep 600", "first")) as first:
            first.until("sleeping for 600 s")
            with closing(Stream(daemon, "hello", "second")) as second, closing(Stream(daemon, "hi", "third")) as third:
                second.until("number 1 in the line")
                third.until("number 2 in the line")
                first.hang_up()
                third.until("number 1 in the line")
                assert second.rest().startswith("You said: hello\nThis is message 1")
                assert third.rest().startswith("You said: hi\nThis is message 1")
        status = daemon.json("status")["workers"]
        assert (status["running_turns"], status["waiting_turns"]) == (0, 0)
