"""The agent of ``disturbing`` in one process of threads: what hermesd's processes are compared with.

``threads.py DIRECTORY``. Reads a line ``{way, seconds, sessions, pause}`` in JSON for each measurement, and answers
with one: the seconds that each quiet turn took which began while the other session was at it. The log goes to
DIRECTORY. No chat platform is behind it: the last of what is streamed is kept in memory.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import disturbing


class Out:
    def __init__(self) -> None:
        self._pieces: deque[str] = deque(maxlen=1000)

    def delta(self, text: str) -> None:
        self._pieces.append(text)


def quiet_turns(
    pool: ThreadPoolExecutor, after: float, pause: float, other: Future[str], took: list[tuple[float, float]]
) -> None:
    time.sleep(after)
    while not other.done():
        at, began = time.time(), time.perf_counter()
        pool.submit(disturbing.turn, "hello", Out()).result()
        took.append((at, time.perf_counter() - began))
        time.sleep(pause)


def measure(pool: ThreadPoolExecutor, way: str, seconds: float, sessions: int, pause: float) -> list[float]:
    other = pool.submit(disturbing.turn, f"{way} {seconds}", Out())
    took: list[tuple[float, float]] = []
    quiet = [
        threading.Thread(target=quiet_turns, args=(pool, pause * number / sessions, pause, other, took))
        for number in range(sessions)
    ]
    for thread in quiet:
        thread.start()
    for thread in quiet:
        thread.join()
    times: dict[str, Any] = json.loads(other.result())
    return [one for at, one in took if times["began"] <= at <= times["ended"]]


def main() -> None:
    file = logging.handlers.RotatingFileHandler(Path(sys.argv[1]) / "log", maxBytes=1 << 20, backupCount=2)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file])
    with ThreadPoolExecutor(64) as pool:
        for line in sys.stdin:
            print(json.dumps(measure(pool, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
