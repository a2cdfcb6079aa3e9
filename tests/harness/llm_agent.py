"""The agent ``llm`` without a worker around it: a session whose tools are functions, and what it says."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hermesd.ipc.messages import Entry, File
from hermesd.workers.agents.calls import run_turn
from hermesd.workers.agents.contract import Session, Tool, ToolResult, Turn
from hermesd.workers.agents.llm.agent import Llm, make

Function = Callable[[dict[str, Any]], Awaitable[ToolResult | str]]


class Functions:
    """`hermesd.workers.agents.contract.Tools`: every tool is a coroutine function, by ``server.tool``."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def start(self, *servers: str) -> None:
        """They need no start."""

    async def tools(self, *, patient: bool = False) -> list[Tool]:
        return [
            Tool(*name.split(".", 1), f"the tool {name}", {"type": "object", "properties": {}})
            for name in self._functions
        ]

    async def call(self, server: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
        name = f"{server}.{tool}"
        self.calls.append((name, arguments))
        result = await self._functions[name](arguments)
        return result if isinstance(result, ToolResult) else ToolResult(result)


class Heard:
    """`hermesd.workers.agents.contract.Out`: keeps what the agent says. ``choices`` answer its questions in turn."""

    def __init__(self, choices: Sequence[str] = ()) -> None:
        self.text = ""
        self.tools: list[tuple[str, str]] = []
        self.statuses: list[str] = []
        self.questions: list[tuple[str, tuple[str, ...], float]] = []
        self.used: dict[str, int] = {}
        self.spoke = asyncio.Event()
        self._choices = list(choices)

    async def delta(self, text: str) -> None:
        self.text += text
        self.spoke.set()

    async def tool(self, name: str, args: str | dict[str, Any], state: str) -> None:
        self.tools.append((name, state))

    async def status(self, text: str) -> None:
        self.statuses.append(text)

    async def send(self, target: str, text: str, files: Sequence[str] = ()) -> None:
        raise AssertionError("this agent sends nothing by itself")

    async def usage(self, tokens: Mapping[str, int]) -> None:
        for name, count in tokens.items():
            self.used[name] = self.used.get(name, 0) + count

    async def ask(self, question: str, choices: Sequence[str] = (), timeout: float = 300.0) -> str:
        self.questions.append((question, tuple(choices), timeout))
        return self._choices.pop(0)


class Talk:
    """A conversation as a worker has it: its history grows. ``models`` as the wire has them."""

    def __init__(
        self,
        workdir: Path,
        *models: Mapping[str, Any],
        functions: Mapping[str, Function] | None = None,
        history: Sequence[Entry] = (),
        key: str = "agent:main:fake:dm:a",
        **config: Any,
    ) -> None:
        workdir.mkdir(parents=True, exist_ok=True)
        self.functions = Functions(functions or {})
        self.session = Session(
            key=key, id="s1", platform="fake", chat="a", user="u", user_name="Ann", history=list(history),
            mcp=self.functions, settings={}, workdir=workdir, config={"models": [*models], **config},
        )  # fmt: skip
        self.agent: Llm = make(self.session)
        self._numbers = itertools.count(1)

    async def say(self, text: str, *, files: Sequence[File] = (), out: Heard | None = None) -> Heard:
        """One turn; raises what it raises. An interrupted one that said something is in the history, as in a worker."""
        out = out or Heard()
        turn = Turn(f"t{next(self._numbers)}", text, "u", attachments=tuple(files))
        kept = False
        try:
            await run_turn(self.agent, turn, out)
            kept = True
        except asyncio.CancelledError:
            kept = bool(out.text)
            raise
        finally:
            if kept:
                now = time.time()
                self.session.history += [Entry("user", text, now), Entry("assistant", out.text, now)]
                self.agent.settled()
        return out

    async def close(self) -> None:
        await self.agent.close()


def model(url: str, name: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    return {"name": name, "base_url": url, "api_key": "sk-of-the-tests", "context_length": 0, **more}
