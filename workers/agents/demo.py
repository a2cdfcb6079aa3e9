"""The built-in agent without model, key or network: it shows that the whole system works, and breaks on request."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hermesd.workers.agents.contract import Out, Session, Turn
from hermesd.workers.agents.demo_command import Command, Mistake, parse, parse_call, parse_count
from hermesd.workers.mcp.errors import McpError

SPIN_SECONDS = 60.0
REGEX_LENGTH = 36  # each more doubles the time; 36 is hours
HISTORY_SHOWN = 20
_PAGE = 4096

_CONTEXT = re.compile(r"^(?:\[[^\]\n]*\]\s+)+(?=!)")
"""Who writes in a shared session, and what is answered, stand in brackets before the text."""


def make(session: Session) -> Demo:
    """The factory, as ``hermesd.agent: demo`` names it."""
    return Demo(session)


class Demo:
    """Answers any text by itself; a text that begins with ``!`` is a command of `COMMANDS`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen = 0
        self._interrupted = asyncio.Event()
        self._reason = ""
        self._leaked: list[bytearray] = []

    async def turn(self, turn: Turn, out: Out) -> str | None:
        self._seen += 1
        self._interrupted.clear()
        try:
            command = parse(_CONTEXT.sub("", turn.text), {name: entry.usage for name, entry in COMMANDS.items()})
            if command is not None:
                return await COMMANDS[command.name].run(self, command, out)
        except Mistake as mistake:
            return str(mistake)
        return await self._say(out, self._answer(turn))

    async def interrupt(self, reason: str) -> None:
        self._reason = reason
        self._interrupted.set()

    # ---- the answer to anything that is no command -------------------------------------------------------------------

    def _answer(self, turn: Turn) -> str:
        earlier = len(self._session.history) // 2
        lines = [f"You said: {turn.text}" if turn.text.strip() else "You sent no text."]
        lines += [f"I got your file {file.name} ({file.mime})." for file in turn.attachments]
        lines.append(
            f"This is message {self._seen} to this worker"
            + (f", and I remember {earlier} answered before it." if earlier else ".")
        )
        lines.append("I am the demo agent and have no model behind me. Write !help to see what I can do.")
        return "\n".join(lines)

    async def _say(self, out: Out, text: str) -> str:
        """Stream the text line by line, as a model would token by token."""
        for line in text.splitlines(keepends=True):
            await out.delta(line)
        return text

    async def _pause(self, seconds: float) -> bool:
        """Wait; True if the turn was interrupted meanwhile."""
        try:
            await asyncio.wait_for(self._interrupted.wait(), seconds)
        except TimeoutError:
            return False
        return True

    # ---- commands ----------------------------------------------------------------------------------------------------

    async def help(self, command: Command, out: Out) -> str:
        return "\n".join(["I understand:", *(f"{entry.usage} - {entry.what}" for entry in COMMANDS.values())])

    async def tools(self, command: Command, out: Out) -> str:
        tools = await self._session.mcp.tools(patient=True)
        if not tools:
            return "No MCP server is configured, or none of them has started; the worker's log says why."
        lines = [f"{tool.server}.{tool.name} - {_first_line(tool.description)}" for tool in tools]
        return "\n".join([*lines, "Call one with !call SERVER.TOOL {json}."])

    async def start(self, command: Command, out: Out) -> str:
        await self._session.mcp.start()
        return await self.tools(command, out)

    async def call(self, command: Command, out: Out) -> str:
        server, tool, arguments = parse_call(command.argument)
        name = f"{server}.{tool}"
        await out.tool(name, arguments, "started")
        try:
            result = await self._session.mcp.call(server, tool, arguments)
        except McpError as error:
            await out.tool(name, arguments, "failed")
            return str(error)
        await out.tool(name, arguments, "failed" if result.is_error else "done")
        return f"{name} reports an error: {result.text}" if result.is_error else result.text

    async def ask(self, command: Command, out: Out) -> str:
        choice = await out.ask(command.argument, ("approve", "deny"))
        return f"You chose {choice}." if choice else "Nobody answered in time."

    async def file(self, command: Command, out: Out) -> str:
        name = Path(command.argument).name
        if name != command.argument or name in ("", ".", ".."):
            raise Mistake(f"{command.argument!r} is no plain file name; try !file note.txt")
        path = self._session.workdir / name
        path.write_text(f"Written by the demo agent for session {self._session.key}.\n", encoding="utf-8")
        await out.send("", f"Here is {name}.", [str(path)])
        return f"I wrote {name} and sent it."

    async def stream(self, command: Command, out: Out) -> str:
        count = int(parse_count(command.argument, default=10, largest=1_000_000))
        text = ""
        for number in range(1, count + 1):
            part = f"{number} "
            text += part
            await out.delta(part)
            await asyncio.sleep(0)
            if self._interrupted.is_set():
                break
        return text

    async def sleep(self, command: Command, out: Out) -> str:
        seconds = parse_count(command.argument, default=1.0, largest=86400)
        await out.status(f"sleeping for {seconds:g} s")
        began = time.monotonic()
        if await self._pause(seconds):
            return f"Woken after {time.monotonic() - began:.1f} of {seconds:g} s: {self._reason or 'interrupted'}."
        return f"Slept for {seconds:g} s."

    async def spin(self, command: Command, out: Out) -> str:
        seconds = parse_count(command.argument, default=SPIN_SECONDS, largest=86400)
        rounds, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:  # no await: the point is an event loop that does not run
            rounds += 1
        return f"Went round {rounds} times in {seconds:g} s; nothing else of this worker's loop ran meanwhile."

    async def regex(self, command: Command, out: Out) -> str:
        length = int(parse_count(command.argument, default=REGEX_LENGTH, largest=200))
        began = time.monotonic()
        re.match(r"(a+)+$", "a" * length + "!")
        return f"Searched {length} letters for {time.monotonic() - began:.1f} s in one C call that held the GIL."

    async def crash(self, command: Command, out: Out) -> str:
        how = command.argument or "exit"
        if how not in CRASHES:
            raise Mistake(f"I cannot crash by {how!r}; try one of: {', '.join(CRASHES)}")
        CRASHES[how]()
        return f"I am still here: {how} did not end this process."

    async def fail(self, command: Command, out: Out) -> str:
        raise RuntimeError(command.argument or "you asked me to fail")

    async def history(self, command: Command, out: Out) -> str:
        entries = self._session.history
        if not entries:
            return "This conversation has no history yet."
        shown = [f"{entry.role}: {_first_line(entry.text)}" for entry in entries[-HISTORY_SHOWN:]]
        return "\n".join([f"{len(entries)} entries, the last {len(shown)}:", *shown])

    async def env(self, command: Command, out: Out) -> str:
        return f"{len(os.environ)} variables, names only: {' '.join(sorted(os.environ))}"

    async def leak(self, command: Command, out: Out) -> str:
        megabytes = int(parse_count(command.argument, default=10, largest=1 << 20))
        block = bytearray(megabytes << 20)
        block[::_PAGE] = b"\1" * len(range(0, len(block), _PAGE))  # an untouched page costs no memory
        self._leaked.append(block)
        return f"Holding {sum(map(len, self._leaked)) >> 20} MB that I never give back."

    async def whoami(self, command: Command, out: Out) -> str:
        session = self._session
        who = session.user_name or session.user
        return f"Session {session.key} ({session.id}) of {who} on {session.platform}, worker pid {os.getpid()}."


def _first_line(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 100 else f"{line[:99]}…"


def _exit() -> NoReturn:
    os._exit(3)


def _segv() -> None:
    ctypes.string_at(0)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


CRASHES: dict[str, Callable[[], None]] = {"exit": _exit, "segv": _segv, "abort": os.abort, "kill": _kill}


@dataclass(frozen=True, slots=True)
class _Entry:
    usage: str
    what: str
    run: Callable[[Demo, Command, Out], Awaitable[str]]


COMMANDS: dict[str, _Entry] = {
    "help": _Entry("!help", "this list", Demo.help),
    "tools": _Entry("!tools", "the tools of all MCP servers", Demo.tools),
    "start": _Entry("!start", "start every MCP server, as a call would", Demo.start),
    "call": _Entry("!call SERVER.TOOL {json}", "call a tool and reply with its text", Demo.call),
    "ask": _Entry("!ask TEXT", "ask you to approve or deny", Demo.ask),
    "file": _Entry("!file NAME", "write a small file and send it", Demo.file),
    "stream": _Entry("!stream [N]", "answer in N parts", Demo.stream),
    "sleep": _Entry("!sleep [S]", "sleep for S seconds; /stop wakes me", Demo.sleep),
    "spin": _Entry("!spin [S]", "keep a core and this worker's event loop busy in Python", Demo.spin),
    "regex": _Entry(
        "!regex [N]", "hold the interpreter's lock inside one C call, for hours unless N is small", Demo.regex
    ),
    "crash": _Entry("!crash [exit|segv|abort|kill]", "end this worker's process at once", Demo.crash),
    "fail": _Entry("!fail [TEXT]", "fail this turn; the worker stays", Demo.fail),
    "history": _Entry("!history", "what I remember of this conversation", Demo.history),
    "env": _Entry("!env", "the names in my environment", Demo.env),
    "leak": _Entry("!leak [MB]", "take memory and keep it", Demo.leak),
    "whoami": _Entry("!whoami", "session, user and process", Demo.whoami),
}
