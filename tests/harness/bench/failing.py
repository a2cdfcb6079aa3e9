"""CPU time of a message whose model answers with an error, beside one that is answered; with an MCP server.

Counted are hermesd, the worker and the server that is in use: what a failure rebuilds shows in one of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from harness.aimock import aimock, has_aimock
from harness.cases import failing_model
from harness.cases import hermes as failing_hermes
from harness.hermes.scene import conversation, why_not
from harness.running import TIME
from harness.scene import Scene

from .cpu import run_seconds
from .effort import Effort, Say
from .row import Row, Series

CHAT = "chat"
MOST = 40
"""Messages of one conversation: a long one would cost the good messages more, for the failing ones leave nothing."""

GOOD, GONE = "gpt-4o", "gone"


@contextlib.contextmanager
def _llm() -> Iterator[Scene]:
    with aimock(*failing_model.FIXTURES) as endpoint, Scene(servers={"time": TIME}) as scene:
        scene.configure_llm({"default": GOOD, "base_url": endpoint.url, "api_key": "sk-none"})
        yield scene.start()


@contextlib.contextmanager
def _hermes() -> Iterator[Scene]:
    with conversation(*failing_hermes.FIXTURES) as (scene, _):
        yield scene


AGENTS: Mapping[str, tuple[Callable[[], contextlib.AbstractContextManager[Scene]], str]] = {
    "llm": (_llm, failing_model.TOLD),
    "hermes": (_hermes, "no model gone"),
}
"""How each is set up, and what a chat is told of the error."""


def measure(effort: Effort, say: Say) -> list[Row]:
    if not has_aimock():
        raise RuntimeError("there is no aimock in tests/node: npm ci --prefix tests/node")
    rows = []
    for agent in effort.agents:
        if agent == "hermes" and (reason := why_not()):
            say(f"without hermes: {reason}")
            continue
        rows.append(_row(agent, effort, say))
    return rows


def _row(agent: str, effort: Effort, say: Say) -> Row:
    made, told = AGENTS[agent]
    answers = {GOOD: "As you say.", GONE: told}
    spent: dict[str, list[float]] = {model: [] for model in answers}
    with made() as scene:
        for number in range(effort.runs):
            for model, answer in answers.items():
                # A new conversation for each, with its server: one that has grown would cost more.
                _use(scene, GOOD)
                scene.fake.talk("/new", chat=CHAT)
                scene.fake.talk("the time", chat=CHAT)
                _use(scene, model)
                _say(scene, answer)  # what an agent makes anew for another model is no message's
                spent[model].append(_each(scene, min(MOST, effort.whole_turns), answer))
            last = f"{spent[GONE][-1]:.2f} ms failing, {spent[GOOD][-1]:.2f} good"
            say(f"{agent}, run {number + 1} of {effort.runs}: {last}")
    good = Series(f"{agent}, answered by aimock", spent[GOOD])
    title = f"CPU per message whose model answers 400, {agent}"
    return Row("failing", title, "ms", Series(f"{agent}, 400", spent[GONE]), (good,))


def _use(scene: Scene, model: str) -> None:
    scene.configure_section("model", {"default": model})
    if (done := scene.daemon.ctl("reload")).returncode:
        raise RuntimeError(done.stderr)


def _each(scene: Scene, messages: int, answer: str) -> float:
    """Milliseconds of CPU for each of so many messages."""
    row = scene.worker(CHAT)
    pids = [scene.daemon.pid, row["pid"], *(server["pid"] for server in row["mcp"] if server["name"] == "time")]
    before = run_seconds(pids)
    for _ in range(messages):
        _say(scene, answer)
    return (run_seconds(pids) - before) / messages * 1000


def _say(scene: Scene, answer: str) -> None:
    if answer not in (text := scene.fake.talk("well?", chat=CHAT)):
        raise RuntimeError(f"an unexpected answer: {text}")
