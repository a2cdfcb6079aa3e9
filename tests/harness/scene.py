"""A home with the fake platform and MCP servers of the test's choice: what most cases need around a hermesd."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .daemon import Daemon
from .fake import Fake
from .roll import Roll

TESTS = Path(__file__).parents[1]
NODE = TESTS / "node"
HOSTILE = TESTS / "process" / "servers" / "hostile.py"
PROGRAMS = Path(__file__).parent / "programs"


class Scene:
    """``with Scene(servers={...}) as scene: scene.daemon.start()``.

    ``ours``: what goes under ``hermesd:``; ``fake``: more for the fake platform. It leaves nothing: the daemon is ended
    and the directory removed.
    """

    def __init__(
        self,
        *,
        servers: Mapping[str, Mapping[str, Any]] | None = None,
        ours: Mapping[str, Any] | None = None,
        platforms: Mapping[str, Any] | None = None,
        unprivileged: bool = False,
        env: Mapping[str, str] | None = None,
        fake: Mapping[str, Any] | None = None,
    ):
        self.place = Path(tempfile.mkdtemp(prefix="hd-"))
        self.temporary = self.place / "tmp"
        self.temporary.mkdir()
        if unprivileged:
            os.chmod(self.place, 0o755)
            os.chmod(self.temporary, 0o777)
        self.roll = Roll(self.place / "roll")
        home = self.place / "home"
        config = {
            "hermesd": dict(ours or {}),
            "platforms": {
                "fake": {
                    "enabled": True,
                    "extra": {"socket": str(home / "fake"), "record": str(home / "shown.jsonl"), **(fake or {})},
                },
                **(platforms or {}),
            },
            "mcp_servers": dict(servers or {}),
        }
        # JSON is YAML too.
        self.daemon = Daemon(
            home, json.dumps(config, indent=1), env={"TMPDIR": str(self.temporary), **(env or {})},
            unprivileged=unprivileged,
        )  # fmt: skip
        self.fake = Fake(home / "fake")

    def hostile(self, habit: str) -> dict[str, Any]:
        """The entry of an MCP server that misbehaves; every process of it is on the roll."""
        return {
            "command": sys.executable,
            "args": ["-S", str(HOSTILE), habit],
            "env": {"CONNECT_BACK": str(self.roll.path)},
        }

    def configure(self, **servers: Mapping[str, Any]) -> None:
        """Add MCP servers before the start; they may name the roll."""
        self._merge("mcp_servers", servers)

    def configure_ours(self, **settings: Any) -> None:
        """Add to ``hermesd:`` before the start."""
        self._merge("hermesd", settings)

    @contextmanager
    def configuration_kept(self) -> Iterator[None]:
        """While it runs: afterwards it has the configuration that it has now."""
        path = self.daemon.home / "config.yaml"
        before = path.read_text("utf-8")
        yield
        if path.read_text("utf-8") != before:
            path.write_text(before, "utf-8")
            done = self.daemon.ctl("reload")
            assert done.returncode == 0, done.stderr

    def configure_llm(self, *models: Mapping[str, Any], **agent: Any) -> None:
        """Have the agent ``llm`` talk to these models, before the start or before a reload. ``agent``: more of it."""
        self._merge("hermesd", {"agent": "llm"})
        self._merge("model", models[0])
        self._merge("fallback_providers", list(models[1:]))
        self._merge("agent", agent)

    def configure_section(self, name: str, section: Mapping[str, Any]) -> None:
        """Add to a section of hermes-agent's, before the start or before a reload."""
        self._merge(name, section)

    def _merge(self, section: str, more: Mapping[str, Any] | list[Any]) -> None:
        path = self.daemon.home / "config.yaml"
        config = json.loads(path.read_text("utf-8"))
        if isinstance(more, list):
            config[section] = more
        else:
            config.setdefault(section, {}).update(more)
        path.write_text(json.dumps(config, indent=1), "utf-8")

    def start(self) -> Self:
        self.daemon.start()
        return self

    def session(self, chat: str) -> str:
        """The session key of a direct chat."""
        return f"agent:main:fake:dm:{chat}"

    def worker(self, chat: str) -> dict[str, Any]:
        """The row of ``hermesctl ps`` for a chat."""
        return self.daemon.worker_of(self.session(chat))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.fake.close()
            self.daemon.__exit__()
        finally:
            self.roll.close()
            if error is None or not os.environ.get("HERMESD_KEEP"):
                shutil.rmtree(self.place, ignore_errors=True)


def npx_everything() -> dict[str, Any]:
    """A real server from npm, started as people do: npx, a shell and node, of which node outlives its leader.

    Raises AssertionError where it is not installed: a case must not pass because a part of it was left out.
    """
    assert has_npx(), "there is no npx with the servers of tests/node: npm ci --prefix tests/node"
    return {"command": "npx", "args": ["--no-install", "mcp-server-everything"], "cwd": str(NODE)}


def has_npx() -> bool:
    return shutil.which("npx") is not None and (NODE / "node_modules" / ".bin" / "mcp-server-everything").exists()
