"""From a message to the first piece of its answer: a session whose worker has hibernated, beside one that has it.

A woken worker is a spare, or a new process when there is none; both are measured, and the agents ``llm`` and ``hermes``
besides.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from harness.aimock import aimock, has_aimock
from harness.hermes.scene import conversation, why_not
from harness.scene import Scene

from .effort import Effort, Say
from .row import Row, Series

CHAT = "chat"
WAKES = 5
"""In each run, which counts with its median."""
FIXTURES = [{"match": {"userMessage": "again"}, "response": {"content": "Here I am, once more."}}]


def measure(effort: Effort, say: Say) -> list[Row]:
    wakes = effort.runs * WAKES
    rows = []
    with _demo(spare=1) as scene:
        warm, woken = _both(scene, wakes, "!stream 3")
    with _demo(spare=0) as scene:
        _, forked = _both(scene, wakes, "!stream 3")
    say(f"demo: {_middle(warm):.1f} ms warm, {_middle(woken):.1f} ms from a spare, {_middle(forked):.1f} ms forked")
    rows.append(
        Row(
            "wake", "message to first delta, demo", "ms", Series("a hibernated session, a spare is there", woken),
            (Series("its worker is there", warm), Series("a hibernated session, no spare", forked)),
        )
    )  # fmt: skip
    if has_aimock():
        with aimock(*FIXTURES) as endpoint, Scene(ours=_ours(1)) as scene:
            scene.configure_llm({"default": "good", "base_url": endpoint.url, "api_key": "sk-none"})
            scene.start()
            warm, woken = _both(scene, wakes, "again")
        say(f"llm: {_middle(warm):.1f} ms warm, {_middle(woken):.1f} ms woken")
        rows.append(
            Row(
                "wake", "message to first delta, llm against aimock", "ms",
                Series("a hibernated session, a spare is there", woken), (Series("its worker is there", warm),),
            )
        )  # fmt: skip
    if effort.wakes_hermes and not why_not():
        with conversation(*FIXTURES, ours=_ours(1)) as (scene, _):
            warm, woken = _both(scene, wakes, "again")
        say(f"hermes: {_middle(warm):.1f} ms warm, {_middle(woken):.1f} ms woken")
        rows.append(
            Row(
                "wake", "message to first delta, hermes against aimock", "ms",
                Series("a hibernated session, a spare is there", woken), (Series("its worker is there", warm),),
            )
        )  # fmt: skip
    return rows


def _ours(spare: int) -> dict[str, object]:
    return {"workers": {"spare": spare, "idle_timeout": "12h"}}


@contextlib.contextmanager
def _demo(spare: int) -> Iterator[Scene]:
    with Scene(ours=_ours(spare)) as scene:
        yield scene.start()


def _both(scene: Scene, wakes: int, text: str) -> tuple[list[float], list[float]]:
    """Milliseconds with the worker there, and after it has hibernated."""
    scene.fake.talk(text, chat=CHAT)
    warm, woken = [], []
    for _ in range(wakes):
        warm.append(_first(scene, text))
        done = scene.daemon.ctl("stop", scene.session(CHAT))
        if done.returncode:
            raise RuntimeError(done.stderr)
        time.sleep(0.3)  # a spare that is being made is no spare yet, and costs the processor
        woken.append(_first(scene, text))
    return _middles(warm), _middles(woken)


def _first(scene: Scene, text: str) -> float:
    """Until the chat shows anything of the answer; the answer itself is waited for."""
    began = time.monotonic()
    message = scene.fake.say(text, chat=CHAT)
    shown = scene.fake.ask("wait", count=1, timeout=30.0, chat=CHAT, reply_to=message)
    took = time.monotonic() - began
    if not shown["met"]:
        raise RuntimeError(f"{text!r} was not answered")
    scene.fake.final(message, chat=CHAT)
    return took * 1000


def _middles(values: list[float]) -> list[float]:
    """One figure for each run."""
    return [_middle(values[start : start + WAKES]) for start in range(0, len(values), WAKES)]


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
