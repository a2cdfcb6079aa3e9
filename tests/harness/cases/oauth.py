"""Ten workers share an authorization whose access tokens live 2 s and whose refresh tokens are good for one use."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.mcp_http import figures_of, guarded, visit
from harness.scene import Scene

WORKERS = 10
LIFE = 2.0
ANSWER_SECONDS = 120.0


def run(times: int, seed: int, say: Callable[[str], None], *, workers: int = WORKERS) -> dict[str, Any]:
    """A round is a call of every worker, at once, after the token's end. The seed chooses nothing."""
    with guarded(life=LIFE) as server, Scene() as scene:
        scene.configure(far={"url": server.url, "auth": "oauth", "connect_timeout": ANSWER_SECONDS})
        scene.start()
        chats = [f"c{number}" for number in range(workers)]
        refusal = scene.fake.talk("!call far.add {}", chat=chats[0], seconds=ANSWER_SECONDS)
        assert "hermesctl mcp login far" in refusal, refusal
        login(scene)
        with ThreadPoolExecutor(workers) as pool:
            for number in range(times):
                answers = list(pool.map(lambda chat: _add(scene, chat), chats))
                assert answers == ["42"] * workers, answers
                say(f"round {number + 1}: {figures_of(server)}")
                time.sleep(LIFE)
        found = figures_of(server)
        assert found["refused"] == found["reused"] == 0, found
        assert found["refreshed"] >= times - 1, found
        file = scene.daemon.home / "mcp-tokens" / "far.json"
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        return {"rounds": times, "workers": workers, **found}


def login(scene: Scene, name: str = "far", *, paste: bool = False) -> None:
    """``hermesctl mcp login``, with a browser on this machine, or with one elsewhere whose address is pasted."""
    command = scene.daemon.command("hermesctl", "mcp", "login", name, "--no-browser")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=scene.daemon.env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        said = ""
        while not (found := re.search(r"^(http\S+)$", said, re.MULTILINE)):
            line = process.stderr.readline()
            assert line, said
            said += line
        threading.Thread(target=process.stderr.read, daemon=True).start()
        ends = visit(found[1], follow=not paste)
        if paste:
            process.stdin.write(f"{ends}\n")
            process.stdin.flush()
        assert process.wait(ANSWER_SECONDS) == 0, said


def _add(scene: Scene, chat: str) -> str:
    return str(scene.fake.talk(f"!call far.add {json.dumps({'a': 2, 'b': 40})}", chat=chat, seconds=ANSWER_SECONDS))
