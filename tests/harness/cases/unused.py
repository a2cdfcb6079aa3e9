"""Fifty sessions with seven configured servers that nobody calls: all know the tools, and no server has a process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.scene import Scene

SESSIONS = 50
SERVERS = 7
SECONDS = 120.0
AT_ONCE = 8


def run(times: int, seed: int, say: Callable[[str], None], *, sessions: int = SESSIONS) -> dict[str, Any]:
    """A round is a new hermesd and a look of every session at its tools. The seed chooses nothing."""
    with Scene() as scene:
        scene.configure(**{f"s{number}": scene.hostile("be_plain") for number in range(SERVERS)})
        scene.configure_ours(workers={"max": sessions + 1, "max_turns": AT_ONCE, "idle_timeout": "12h"})
        scene.start()
        tools = scene.fake.talk("!tools", chat="lister", seconds=SECONDS)
        assert all(f"s{number}.echo" in tools for number in range(SERVERS)), tools
        chats = [f"c{number}" for number in range(sessions)]
        for number in range(times):
            scene.daemon.stop()
            scene.fake.close()
            scene.start()
            spawns = _figures(scene)["spawns"]
            with ThreadPoolExecutor(AT_ONCE) as people:
                answers = list(people.map(lambda chat: scene.fake.talk("!tools", chat=chat, seconds=SECONDS), chats))
            assert answers == [tools] * sessions, [answer for answer in answers if answer != tools]
            figures = _figures(scene)
            alive = scene.roll.alive()
            assert (figures["sessions"], alive) == (sessions, []), (figures, alive)
            assert figures["spawns"] == spawns, (figures, spawns)
            say(f"round {number + 1}: {figures}, {len(alive)} MCP processes")
        assert scene.fake.talk("!call s3.echo", chat=chats[-1], seconds=SECONDS) == "echo: {}"
        assert len(scene.roll.alive()) == 1, "of the one that is called"
        return {"rounds": times, "sessions": sessions, "servers": SERVERS}


def _figures(scene: Scene) -> dict[str, int]:
    budgets = scene.daemon.ask("mcp.list", figures=False)["budgets"]
    return {
        "sessions": sum(1 for row in scene.daemon.workers() if row.get("session")),
        "running": sum(budget["running"] for budget in budgets),
        "spawns": sum(budget["spawns"] for budget in budgets),
    }
