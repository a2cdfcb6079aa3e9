"""How long quiet sessions wait for their answers while another session disturbs: as a ratio to nobody disturbing.

Ours is timed from hermesd's word that it has the message until the answer is shown. Beside it: the same turns in one
process of threads, timed from the thread pool's having the turn until its end, with no platform and no journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.figures import quantile
from harness.scene import PROGRAMS

from . import idle_sessions, place, shown
from .effort import Effort, Say
from .row import Row, Series

DISTURBANCES = {
    "spin": "spins",
    "fork": "forks",
    "allocate": "allocates",
    "log": "logs",
    "flood": "floods deltas",
}
"""The commands of the agent in programs/disturbing.py."""

NOBODY = "rest"
PAUSE = 0.02
"""Seconds of a quiet session between an answer and its next message."""

Waits = dict[str, list[list[float]]]
"""Seconds of the quiet turns of each run, by what the other session did."""


def measure(effort: Effort, say: Say) -> list[Row]:
    ours: Waits = {way: [] for way in (NOBODY, *DISTURBANCES)}
    threads: Waits = {way: [] for way in (NOBODY, *DISTURBANCES)}
    quiet, seconds = effort.quiet_sessions, effort.disturbed_seconds
    agent = {"agent": "disturbing:make", "agent_path": [str(PROGRAMS)]}
    with (
        idle_sessions.scene(quiet + 1, max(idle_sessions.AT_ONCE, quiet + 1), **agent) as scene,
        _threads() as ask_threads,
    ):
        for number in range(effort.runs):
            for way in ours:
                ours[way].append(asyncio.run(beside(scene.daemon.home, way, seconds, quiet, f"r{number}{way}")))
                threads[way].append(ask_threads(way, seconds, quiet))
                if not (ours[way][-1] and threads[way][-1]):
                    raise RuntimeError(f"no quiet turn began within {seconds} s while another session did {way}")
            say(f"run {number + 1} of {effort.runs}: {len(ours[NOBODY][-1])} quiet turns while nobody disturbed")
    return [
        Row(
            "neighbours",
            f"p99 of {quiet} quiet sessions' turns while one more {what}, to while nobody does",
            "times",
            _series("hermesd, a process each", ours, way),
            (_series("one process, ThreadPoolExecutor", threads, way),),
        )
        for way, what in DISTURBANCES.items()
    ]


def _series(name: str, waits: Waits, way: str) -> Series:
    def ratios(share: float) -> list[float]:
        runs = zip(waits[way], waits[NOBODY], strict=True)
        return [quantile(disturbed, share) / quantile(quiet, share) for disturbed, quiet in runs]

    def ms(way: str) -> float:
        return statistics.median(quantile(run, 0.99) for run in waits[way]) * 1000

    notes = {"times the p50": statistics.median(ratios(0.5)), "ms": ms(way), "ms undisturbed": ms(NOBODY)}
    return Series(name, ratios(0.99), notes)


# ---- ours ------------------------------------------------------------------------------------------------------------


async def beside(home: Path, way: str, seconds: float, quiet: int, mark: str) -> list[float]:
    """Of the turns of the quiet sessions that began while the other one was at it."""
    async with shown.watched(home) as record:
        talks = [await shown.Talk.begin(home, f"chat{number}", record) for number in range(quiet + 1)]
        try:
            other = asyncio.create_task(talks[quiet].say(f"{way} {seconds}", f"{mark}other"), name="other")
            answers = await asyncio.gather(
                *(
                    _quiet_turns(talk, PAUSE * number / quiet, other, f"{mark}n{number}")
                    for number, talk in enumerate(talks[:quiet])
                )
            )
            times = json.loads((await other).text)
        finally:
            for talk in talks:
                await talk.end()
    began, ended = times["began"], times["ended"]
    return [one.seconds for turns in answers for one in turns if began <= one.accepted_at <= ended]


async def _quiet_turns(
    talk: shown.Talk, after: float, other: asyncio.Task[shown.Answered], mark: str
) -> list[shown.Answered]:
    await asyncio.sleep(after)
    answers: list[shown.Answered] = []
    while not other.done():
        answers.append(await talk.say("hello", f"{mark}m{len(answers)}"))
        await asyncio.sleep(PAUSE)
    return answers


# ---- one process of threads ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _threads() -> Iterator[Callable[[str, float, int], Sequence[float]]]:
    """The program that does the same in threads, running; yields what asks it."""
    with place.temporary() as directory:
        child = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "threads.py"), str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None

        def ask(way: str, seconds: float, sessions: int) -> list[float]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps({"way": way, "seconds": seconds, "sessions": sessions, "pause": PAUSE}) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                raise RuntimeError(f"the program of threads ended with exit {child.wait()}")
            return [float(one) for one in json.loads(answer)]

        try:
            yield ask
        finally:
            child.stdin.close()
            child.kill()
            child.wait()
            child.stdout.close()
