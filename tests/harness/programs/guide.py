"""The demo agent, which also tells a story, so slowly that one sees it grow."""

import asyncio

from hermesd.workers.agents.demo import Demo

STORY = [
    "There was a gardener ", "who asked before ", "watering anything, ", "and the plants ", "grew all the better. ",
    "One day it rained, ", "nobody had to ask, ", "and that was all.",
]  # fmt: skip


class Guide(Demo):
    async def turn(self, turn, out):
        if "story" not in turn.text:
            return await super().turn(turn, out)
        for part in STORY:
            await out.delta(part)
            await asyncio.sleep(0.6)
        return "".join(STORY)


def make(session):
    return Guide(session)
