"""CPU time of a message whose model answers with an error, beside one that is answered; with an MCP server.

Counted are hermesd, the worker and the server: what a failure rebuilds shows in one of them.
"""

from __future__ import annotations

from harness.aimock import aimock, has_aimock
from harness.cases.failing_model import FIXTURES, TOLD
from harness.running import TIME
from harness.scene import Scene

from .cpu import run_seconds
from .effort import Effort, Say
from .row import Row, Series

CHAT = "chat"
MOST = 40
"""Messages of one conversation: a long one would cost the good messages more, for the failing ones leave nothing."""

ANSWERS = {"good": "As you say.", "gone": TOLD}


def measure(effort: Effort, say: Say) -> list[Row]:
    if not has_aimock():
        raise RuntimeError("there is no aimock in tests/node: npm ci --prefix tests/node")
    spent: dict[str, list[float]] = {model: [] for model in ANSWERS}
    with aimock(*FIXTURES) as endpoint, Scene(servers={"time": TIME}) as scene:
        scene.configure_llm({"default": "good", "base_url": endpoint.url, "api_key": "sk-none"})
        scene.start()
        scene.fake.talk("the time", chat=CHAT)
        for number in range(effort.runs):
            for model, answer in ANSWERS.items():
                scene.configure_llm({"default": model})
                if (done := scene.daemon.ctl("reload")).returncode:
                    raise RuntimeError(done.stderr)
                spent[model].append(_each(scene, min(MOST, effort.whole_turns), answer))
                # A conversation that grows would cost the good messages of later runs more.
                scene.fake.talk("/new", chat=CHAT)
                scene.fake.talk("the time", chat=CHAT)
            say(f"run {number + 1} of {effort.runs}: {spent['gone'][-1]:.2f} ms failing, {spent['good'][-1]:.2f} good")
    good = Series("llm, answered by aimock", spent["good"])
    return [Row("failing", "CPU per message whose model answers 400", "ms", Series("llm, 400", spent["gone"]), (good,))]


def _each(scene: Scene, messages: int, answer: str) -> float:
    """Milliseconds of CPU for each of so many messages."""
    row = scene.worker(CHAT)
    pids = [scene.daemon.pid, row["pid"], *(server["pid"] for server in row["mcp"] if server["pid"])]
    before = run_seconds(pids)
    for _ in range(messages):
        if answer not in (text := scene.fake.talk("well?", chat=CHAT)):
            raise RuntimeError(f"an unexpected answer: {text}")
    return (run_seconds(pids) - before) / messages * 1000
