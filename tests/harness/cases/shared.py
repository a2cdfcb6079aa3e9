"""An MCP server with scope: host: one process for all sessions, and its death is felt by the calls under way only."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.running import wait_until
from harness.scene import Scene

SESSIONS = 8
SECONDS = 120.0


def run(times: int, seed: int, say: Callable[[str], None], *, sessions: int = SESSIONS) -> dict[str, Any]:
    """A round: every session calls at once; then the server, or the worker that holds it, is killed under a call."""
    with Scene(servers={}) as scene:
        scene.configure(one={**scene.hostile("be_plain"), "scope": "host", "connect_timeout": SECONDS})
        scene.start()
        chats = [f"c{number}" for number in range(sessions)]
        with ThreadPoolExecutor(sessions + 1) as pool:
            for number in range(times):
                answers = list(pool.map(lambda chat: _echo(scene, chat), chats))
                assert answers == chats, answers
                holder, server = _census(scene)
                begun = scene.place / f"begun-{number}"
                call = f"!call one.slow {json.dumps({'seconds': 600, 'begun': str(begun)})}"
                slow = pool.submit(scene.fake.talk, call, chat="victim", seconds=SECONDS)
                # What is under way for hermesd has not come to the server yet, and then it may go to the next one.
                wait_until(begun.exists, SECONDS)
                assert _holder(scene)["state"] == "busy"
                os.kill(holder["pid"] if number % 2 else server["pid"], signal.SIGKILL)
                told = slow.result(SECONDS)
                assert "ended during" in told, told
                say(f"round {number + 1}: {told}")
                # As often as this, no server would be started any more for a while.
                scene.daemon.ask("mcp.reset", server="one")
        assert _echo(scene, "c0") == "c0"
        _census(scene)
        scene.daemon.ctl("mcp", "restart", "one", timeout=SECONDS)
        assert not [row for row in scene.daemon.ask("mcp.list", figures=True)["servers"] if row["pid"]]
        assert _echo(scene, "c0") == "c0"
        return {"rounds": times, "sessions": sessions}


def _echo(scene: Scene, chat: str) -> str:
    answer = scene.fake.talk(f"!call one.echo {json.dumps({'text': chat})}", chat=chat, seconds=SECONDS)
    head, _, arguments = answer.partition(": ")
    return str(json.loads(arguments)["text"]) if head == "echo" else answer


def _holder(scene: Scene) -> dict[str, Any]:
    rows = [row for row in _ps(scene) if row.get("serves") == "one"]
    assert len(rows) == 1, rows
    return dict(rows[0])


def _ps(scene: Scene) -> list[dict[str, Any]]:
    return list(scene.daemon.ask("ps", tree=True)["workers"])


def _census(scene: Scene) -> tuple[dict[str, Any], dict[str, Any]]:
    """The holder and its server: counted once, and in no session."""
    rows = _ps(scene)
    with_server = [row for row in rows if any(server["pid"] for server in row["mcp"])]
    assert [row.get("serves") for row in with_server] == ["one"], with_server
    listed = [row for row in scene.daemon.ask("mcp.list", figures=True)["servers"] if row["pid"]]
    assert [(row["server"], row["session"]) for row in listed] == [("one", "")], listed
    (server,) = with_server[0]["mcp"]
    assert server["pid"] in {line["pid"] for line in with_server[0]["tree"]}
    return dict(with_server[0]), dict(server)
