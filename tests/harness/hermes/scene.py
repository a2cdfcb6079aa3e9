"""A hermesd whose agent is the real hermes-agent, with two real MCP servers and a model that others wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.aimock import AiMock, aimock, has_aimock
from harness.running import TIME
from harness.scene import NODE, Scene

from .environment import PYTHON, has_hermes

FILES_SERVER = NODE / "node_modules" / ".bin" / "mcp-server-filesystem"
"""From npm: reads and writes files, here in one directory of the scene's."""

FILES_TOOLS = ["list_allowed_directories", "read_text_file", "write_file"]
"""aimock keeps no request of more than 64 KiB: these, and the terminal of hermes-agent's own, leave room to talk."""

MODEL = {"default": "gpt-4o", "provider": "custom", "api_key": "sk-of-the-tests", "context_length": 128_000}


def why_not(python: Path = PYTHON) -> str:
    """What keeps the real thing from running here, "" if nothing does."""
    if not has_aimock():
        return "no aimock: npm ci --prefix tests/node"
    return "" if has_hermes(python) else f"no {python}: scripts/lib/hermes.sh makes it"


def asks(text: str, *calls: Mapping[str, Any], content: str = "") -> dict[str, Any]:
    """The model answers this message with calls of tools."""
    return {
        "match": {"userMessage": text, "hasToolResult": False},
        "response": {"toolCalls": [dict(call) for call in calls], "content": content},
    }


def answers(text: str, content: str) -> dict[str, Any]:
    """And this, once it has their results."""
    return {"match": {"userMessage": text, "hasToolResult": True}, "response": {"content": content}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Without an id: aimock makes one for each answer, and hermes-agent drops what has the id of an earlier call."""
    return {"name": name, "arguments": arguments}


def steps(endpoint: AiMock) -> list[dict[str, Any]]:
    """The requests of runs, oldest first: hermes-agent asks for more, and looks at what kind of endpoint it is."""
    return [body for body in endpoint.requests() if body and body.get("tools")]


@contextlib.contextmanager
def conversation(
    *fixtures: Mapping[str, Any],
    python: Path = PYTHON,
    env: Mapping[str, str] | None = None,
    dotenv: str = "",
    plugins: Mapping[str, str] | None = None,
    ours: Mapping[str, Any] | None = None,
    fake: Mapping[str, Any] | None = None,
    **more: Any,
) -> Iterator[tuple[Scene, AiMock]]:
    """``fixtures`` of the model; ``dotenv``: the home's ``.env``; ``plugins``: Python text of hermes-agent's by name;
    ``ours``: more under ``hermesd:``; ``fake``: of the platform; ``more`` sections of the configuration.
    """
    ours = {"agent": "hermes", "python": str(python), "workers": {"spare": 0}, **(ours or {})}
    with aimock(*fixtures) as endpoint, Scene(servers={"time": TIME}, ours=ours, env=env, fake=fake) as scene:
        place = scene.place / "files"
        place.mkdir()
        files = {"command": str(FILES_SERVER), "args": ["."], "cwd": str(place), "tools": {"include": FILES_TOOLS},
                 "tools_wait": 60}  # fmt: skip
        scene.configure(files=files)
        scene.configure_section("platform_toolsets", {"cli": ["terminal"]})
        scene.configure_section("model", {**MODEL, "base_url": endpoint.url})
        for name, section in more.items():
            scene.configure_section(name, section)
        for name, text in (plugins or {}).items():
            folder = scene.daemon.home / "plugins" / name
            folder.mkdir(parents=True)
            (folder / "plugin.yaml").write_text(f"name: {name}\nversion: 1.0.0\n")
            (folder / "__init__.py").write_text(text)
            scene.configure_section("plugins", {"enabled": [*plugins]})
        (scene.daemon.home / ".env").write_text(dotenv)
        scene.start()
        yield scene, endpoint
