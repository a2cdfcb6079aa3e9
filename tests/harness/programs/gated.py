"""The demo agent, which also does what takes just as long as a test wants: ``!until PATH`` ends when PATH is there."""

import asyncio
import os

from hermesd.workers.agents.demo import Demo


class Gated(Demo):
    async def turn(self, turn, out):
        word, _, path = turn.text.partition(" ")
        if word != "!until":
            return await super().turn(turn, out)
        self._seen += 1
        await out.status("waiting at the gate")
        while not os.path.exists(path):
            await asyncio.sleep(0.02)
        return "The gate is open."


def make(session):
    return Gated(session)
