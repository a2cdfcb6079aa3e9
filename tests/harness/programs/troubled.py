"""The agent ``llm``, whose process can be made to spin: what one session may do to the others.

``spin SECONDS`` and ``rest SECONDS`` answer with the times between which it did. Anything else is for the model, which
``agent_settings`` name as a hermesd does whose agent is ``llm``.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import disturbing

from hermesd.workers.agents.llm import agent as llm


class Troubled:
    def __init__(self, session: Any):
        self._session = session
        self._llm = llm.make(session)

    async def turn(self, turn: Any, out: Any) -> str | None:
        way, _, seconds = turn.text.partition(" ")
        if way in ("spin", "rest"):
            began = time.time()
            for _ in disturbing.steps(float(seconds)):
                if way == "rest":
                    await asyncio.sleep(0.01)
            return json.dumps({"began": began, "ended": time.time()})
        self._session.config = self._session.settings
        await self._llm.turn(turn, out)
        return None


def make(session: Any) -> Troubled:
    return Troubled(session)
