"""Sessions of hermes-agent's AIAgent in one process, each a thread while it has a turn, as in its own gateway.

``PYTHON aiagents_together.py SESSIONS AT_ONCE``: each session has had a turn, so many of them at once, when the first
line comes. Then a line in JSON for each that is read:

``{"do": "first"}``: the seconds of a new session's first reply, its AIAgent made for it;
``{"do": "beside", "way": "spin" | "rest", "seconds", "sessions", "pause"}``: the seconds that each turn of so many
sessions took which began while another session did that;
``{"do": "crash"}``: one session ends the process, as an agent's C library does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hermes_cli.config import load_config
from hermes_cli.runtime_provider import resolve_runtime_provider
from run_agent import AIAgent

RUNTIME = resolve_runtime_provider()
MODEL = load_config()["model"]["default"]


class Session:
    def __init__(self, number: int):
        # No tools: the sessions of hermesd that are beside it have none either.
        self._agent: Any = AIAgent(
            model=MODEL, quiet_mode=True, session_id=f"session{number}", enabled_toolsets=[],
            **{name: RUNTIME[name] for name in ("api_key", "base_url", "provider")},
        )  # fmt: skip
        self._agent.stream_delta_callback = lambda _: None
        self._history: list[dict[str, Any]] = []

    def turn(self) -> None:
        done = self._agent.run_conversation("hello", conversation_history=self._history)
        if done.get("failed"):
            raise RuntimeError(f"an AIAgent failed: {done.get('error')}")
        self._history = done["messages"]


def begin(number: int) -> Session:
    session = Session(number)
    session.turn()
    return session


def disturb(way: str, seconds: float) -> tuple[float, float]:
    began = time.time()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if way == "rest":
            time.sleep(0.01)
    return began, time.time()


def quiet_turns(
    session: Session, after: float, pause: float, other: Future[tuple[float, float]], took: list[tuple[float, float]]
) -> None:
    time.sleep(after)
    while not other.done():
        at, began = time.time(), time.perf_counter()
        session.turn()
        took.append((at, time.perf_counter() - began))
        time.sleep(pause)


def beside(pool: ThreadPoolExecutor, sessions: list[Session], way: str, seconds: float, pause: float) -> list[float]:
    other = pool.submit(disturb, way, seconds)
    took: list[tuple[float, float]] = []
    quiet = [
        pool.submit(quiet_turns, session, pause * number / len(sessions), pause, other, took)
        for number, session in enumerate(sessions)
    ]
    for one in quiet:
        one.result()
    began, ended = other.result()
    return [one for at, one in took if began <= at <= ended]


def main(count: int, at_once: int) -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # what agents print is not for who reads the answers
    with ThreadPoolExecutor(at_once) as starters:
        sessions = list(starters.map(begin, range(count)))
    pool = ThreadPoolExecutor(64)
    print(json.dumps({"threads": threading.active_count()}), file=out, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        match order["do"]:
            case "first":
                began = time.perf_counter()
                sessions.append(pool.submit(begin, len(sessions)).result())
                answer: Any = time.perf_counter() - began
            case "beside":
                quiet = sessions[: order["sessions"]]
                answer = beside(pool, quiet, order["way"], order["seconds"], order["pause"])
            case "crash":
                pool.submit(os.abort).result()
        print(json.dumps(answer), file=out, flush=True)
    os._exit(0)  # its threads are not waited for


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
