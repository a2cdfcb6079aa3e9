"""An agent of the tests: it notes when each of its turns begins and ends, on the clock that all processes share.

``settings["gate"]``: no turn ends before this file is there.
"""

import asyncio
import os
import time


class Marking:
    def __init__(self, session):
        self._session = session

    async def turn(self, turn, out):
        if turn.text == "history":
            return " | ".join(f"{entry.role}: {entry.text}" for entry in self._session.history)
        self._mark("begin", turn)
        await asyncio.sleep(float(turn.text))
        while not os.path.exists(self._session.settings["gate"]):
            await asyncio.sleep(0.02)
        self._mark("end", turn)
        return f"done {turn.text} in process {os.getpid()}"

    def _mark(self, what, turn):
        line = f"{time.monotonic()} {what} {turn.id}\n".encode()
        file = os.open(self._session.settings["marks"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line)
        os.close(file)


def make(session):
    return Marking(session)
