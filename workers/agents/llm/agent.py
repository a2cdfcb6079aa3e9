"""The agent: what a worker calls. One turn is a loop of a request to the model and the tool calls that it asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from hermesd.workers.agents.contract import Out, Sample, SampleRequest, Session, Turn
from hermesd.workers.errors import TurnFailed
from hermesd.workers.mcp.errors import McpError

from . import conversation, images, sampling, summary, tools, window
from .approvals import Approvals
from .asking import Asking, NoAnswer
from .conversation import Conversation, Exchange, Message
from .endpoint import Endpoints, Request
from .images import message_of
from .settings import Settings, read
from .state import State
from .steps import Steps
from .stream import Assembly, Call
from .tools import BadArguments, Offer, arguments_of

log = logging.getLogger("hermesd.llm")

RESULT_SHARE = 3
"""A tool's result takes at most one part in so many of the window when it comes in."""

ENOUGH = (
    "[You have made as many steps as you may in one turn. Answer now with what you have, and say what is left to do.]"
)

INTERRUPTED = "The user has interrupted this call; whether it had its effect is not known."

CUT_OFF = "\n\n[The model's limit for one answer was reached here.]"


def make(session: Session) -> Llm:
    """The factory, as ``hermesd.agent: llm`` names it."""
    return Llm(session)


class Llm:
    """One conversation with a model. The connections and the model's messages last from turn to turn."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = State(session)
        self._steps = Steps(self._state.steps)
        self._endpoints = Endpoints()
        self._conversation = Conversation()
        self._conversation.restore(self._state.kept.summary, self._state.kept.tail, session.history)
        self._running: _Run | None = None
        self._task: asyncio.Task[Any] | None = None
        self._out: Out | None = None  # of the turn that runs
        self._over = True  # the last turn needs no going on from its steps

    async def turn(self, turn: Turn, out: Out) -> None:
        settings = read(self._session.config)
        await self._endpoints.keep(settings.models)
        self._conversation.follow(self._session.history)
        asking = Asking(self._endpoints, settings.models, out)
        steps = self._steps.begin(turn, self._session.history)
        user = message_of(turn.text, turn.attachments)
        run = _Run(self._session, settings, self._conversation, self._state, self._steps, asking, out, [user, *steps])
        self._running, self._task, self._out = run, asyncio.current_task(), out
        self._over = False
        try:
            await run.answer()
            self._over = True
        finally:
            self._running = self._task = self._out = None
            self._steps.close()
            self._conversation.remember(turn.text, run.whole())
            if asking.usage:
                self._state.count(asking.usage)
                await out.usage(asking.usage)
                log.info("used %s; the conversation so far %s", _counts(asking.usage), _counts(self._state.kept.usage))

    def steer(self, text: str) -> bool:
        """A user's words between two steps. False once the last answer is being written."""
        return self._running is not None and self._running.steer(text)

    def interrupt(self, reason: str) -> None:
        """End the request and the tools at once; what has been said stays."""
        if self._task is not None:
            self._over = True
            self._task.cancel()

    async def sample(self, request: SampleRequest) -> Sample:
        """An MCP server asks the model. What that takes counts for the conversation, and for the turn that runs."""
        found, usage = await sampling.answer(self._endpoints, read(self._session.config).models, request)
        self._state.count(usage)
        if self._out is not None:
            await self._out.usage(usage)
        return found

    def settled(self) -> None:
        """The end of the turn is on disk. Its steps are of use only to one that failed, which may be run again."""
        if self._over:
            self._steps.end()

    async def describe(self, path: str) -> str:
        """What an image shows, in a sentence; "" where no model takes images. Called for stickers, during a turn."""
        settings = read(self._session.config)
        await self._endpoints.keep(settings.models)
        asking = Asking(self._endpoints, settings.models, Silent())
        messages = images.question(path)
        if not messages or not asking.sees():
            return ""

        async def build() -> Request:
            return Request(messages)

        async def unseen(text: str) -> None:
            pass

        try:
            text = (await asking.answer(build, unseen)).text.strip()
        finally:
            if asking.usage:
                self._state.count(asking.usage)
        # One that has got the text only has described nothing.
        return text if asking.sees() else ""

    def snapshot(self) -> bytes:
        """What the texts of the conversation do not tell: its tool calls and their results."""
        return self._conversation.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Called once, before the first turn; the history is the one that the snapshot was made of."""
        self._conversation.take(snapshot)

    async def close(self) -> None:
        await self._endpoints.keep(())


class Silent:
    """`hermesd.workers.agents.contract.Out` for a request whose answer is for no chat."""

    async def status(self, text: str) -> None:
        """What goes wrong with it is in the log."""


class _Run:
    """One turn. ``current``: its messages, the user's first, then those of each step."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        earlier: Conversation,
        state: State,
        steps: Steps,
        asking: Asking,
        out: Out,
        current: list[Message],
    ) -> None:
        self._session = session
        self._settings = settings
        self._conversation = earlier
        self._state = state
        self._steps = steps
        self._asking = asking
        self._out = out
        self._current = current
        self._offer = Offer()
        self._approvals = Approvals(settings.ask_before, settings.ask_seconds, state)
        self._steering: list[str] = []
        self._closed = False
        self._shown = ""  # the end of what the chat has seen of this turn
        self._partial = ""  # of the answer that is being written

    async def answer(self) -> None:
        """Until the model needs no more tools. Raises `TurnFailed`."""
        self._offer = tools.offer(await self._session.mcp.tools())
        await self._resume()
        done = sum(1 for message in self._current if message.get("tool_calls"))
        while True:
            last = done >= self._settings.max_steps
            self._closed = last
            for text in self._take_steering():
                self._keep_step({"role": "user", "content": text})
            if last:
                log.info("%d steps were made: the model is asked for its answer", done)
                self._current.append({"role": "user", "content": ENOUGH})
            reply = await self._asking.answer(lambda: self._request(tools_too=not last), self._say)  # noqa: B023
            calls = [] if last else reply.calls(self._offer.tools)
            self._partial = ""
            if not calls and self._steering:
                self._keep_step({"role": "assistant", "content": reply.text})
                continue
            if not calls:
                self._closed = True
                await self._finish(reply)
                return
            self._keep_step(conversation.answer(reply.text, calls, [_valid(call) for call in calls]))
            await self._call_all(calls)
            done += 1

    def steer(self, text: str) -> bool:
        taken = not self._closed and bool(text.strip())
        if taken:
            self._steering.append(text)
        return taken

    def whole(self) -> list[Message]:
        """The turn's messages so that the next request may begin with them: every call has a result."""
        open_calls = [conversation.result(call.id, INTERRUPTED) for call in conversation.unanswered(self._current)]
        partial: list[Message] = [{"role": "assistant", "content": self._partial}] if self._partial else []
        return [*conversation.in_order([*self._current, *open_calls]), *partial]

    def _take_steering(self) -> list[str]:
        taken, self._steering = self._steering, []
        return taken

    async def _resume(self) -> None:
        """Go on from steps that an earlier run of this message has finished: what it said, and what it was calling."""
        steps = self._current[1:]
        if not steps:
            return
        finished = sum(message["role"] == "tool" for message in steps)
        log.info("going on from %d tool calls that an earlier run of this message had finished", finished)
        for message in steps:
            if message["role"] == "assistant" and message["content"]:
                await self._say(message["content"])
        await self._call_all(conversation.unanswered(self._current))

    def _keep_step(self, message: Message) -> None:
        self._current.append(message)
        try:
            self._steps.add(message)
        except OSError as error:
            # Without it a run that goes on after a crash would call tools again that have finished: better none.
            raise TurnFailed(f"cannot write down the steps of this turn: {error}") from error

    # ---- text --------------------------------------------------------------------------------------------------------

    async def _say(self, text: str) -> None:
        """More of the answer; what an earlier step said stands in a paragraph of its own."""
        if not self._partial and self._shown and not self._shown.endswith("\n"):
            await self._out.delta("\n\n")
        self._partial += text
        self._shown = text[-1:]
        await self._out.delta(text)

    async def _finish(self, reply: Assembly) -> None:
        self._current.append({"role": "assistant", "content": reply.text})
        if not reply.text.strip():  # it asked for tools all the same
            raise TurnFailed(f"the model made {self._settings.max_steps} steps (agent.max_turns) and gave no answer")
        if reply.finish == "length":
            await self._out.delta(CUT_OFF)

    # ---- tools -------------------------------------------------------------------------------------------------------

    async def _call_all(self, calls: Sequence[Call]) -> None:
        """Side by side. Each result is kept as it comes; the first call that breaks the turn ends the others."""
        self._partial = ""
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._call(call), name=f"tool {call.name}")
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _call(self, call: Call) -> None:
        tool = self._offer.tools.get(call.name)
        if tool is None:
            known = ", ".join(sorted(self._offer.tools)) or "none"
            self._keep_step(conversation.result(call.id, f"There is no tool {call.name!r}. Tools: {known}"))
            return
        name = f"{tool.server}.{tool.name}"
        state = "failed"
        await self._out.tool(name, call.arguments, "started")
        try:
            arguments = arguments_of(call.arguments)
            text = await self._approvals.refusal(call.name, tool, call.arguments, self._out)
            if not text:
                found = await self._session.mcp.call(tool.server, tool.name, arguments)
                state = "failed" if found.is_error else "done"
                text = f"The tool reports an error: {found.text}" if found.is_error else found.text
        except (McpError, BadArguments) as error:
            text = str(error)
        finally:
            await self._out.tool(name, call.arguments, state)
        most = self._asking.window.room // RESULT_SHARE
        self._keep_step(conversation.result(call.id, window.clipped(text or "(no output)", most)))

    # ---- requests ----------------------------------------------------------------------------------------------------

    async def _request(self, *, tools_too: bool) -> Request:
        """The next request, made to fit into the window of the model that it is for."""
        schemas = self._offer.schemas if tools_too else []
        made = self._made(schemas)
        while made.size > (room := self._asking.window.room):
            await self._make_room(made.size - room, schemas)
            made = self._made(schemas)
            # To summarise may have shown that the window is smaller still, or have brought in a stand-in with another.
            if made.size > room == self._asking.window.room:
                raise TurnFailed(self._does_not_fit(made))
        return made

    def _made(self, schemas: list[dict[str, Any]]) -> Request:
        system = self._settings.system_prompt
        if self._conversation.summary:
            system = f"{system}\n\n{summary.HEADING}\n{self._conversation.summary}"
        earlier = [message for exchange in self._conversation.exchanges for message in exchange.messages]
        messages = [{"role": "system", "content": system}, *earlier, *conversation.in_order(self._current)]
        return Request(messages, schemas, self._settings.reasoning_effort)

    async def _make_room(self, excess: int, schemas: list[dict[str, Any]]) -> None:
        """Results of tools first, then the oldest turns, then the steps of this one. Told in the log."""
        room = self._asking.window.room
        if count := window.shorten(self._conversation, self._current, excess):
            log.info("the window of %s is full: %d tool results were shortened", self._asking.model.name, count)
        if self._made(schemas).size > room:
            await self._summarise(room - self._made(schemas).size + window.size_of(self._earlier()))
        if self._made(schemas).size > room:  # one of a time when the window was thought to be larger
            most = self._asking.window.room // summary.LENGTH
            self._conversation.summary = window.clipped(self._conversation.summary, most)
        if (excess := self._made(schemas).size - room) > 0 and (count := window.fold(self._current, excess)):
            log.info("the window of %s is full: %d steps of this turn were folded", self._asking.model.name, count)

    def _earlier(self) -> list[Message]:
        return [message for exchange in self._conversation.exchanges for message in exchange.messages]

    async def _summarise(self, room: int) -> None:
        """``room``: characters that there are for earlier turns beside what the request has to have."""
        exchanges = self._conversation.exchanges
        left = window.too_old(exchanges, max(0, room - self._asking.window.room // summary.LENGTH))
        while left > 0:
            text, taken = await self._summary(self._conversation.exchanges[:left])
            gone = self._conversation.exchanges[:taken]
            before = window.size_of(message for exchange in gone for message in exchange.messages)
            most = self._asking.window.room // summary.LENGTH
            text = window.clipped(text or summary.instead(self._conversation.summary, gone, most), most)
            self._conversation.summarise(taken, text)
            left -= taken
            self._state.kept.summary, self._state.kept.tail = text, list(self._conversation.tail)
            self._state.save()
            log.info(
                "the window of %s is full: %d turns of some %d tokens are now a summary of %d",
                self._asking.model.name, taken, self._asking.window.in_tokens(before),
                self._asking.window.in_tokens(len(text)),
            )  # fmt: skip

    async def _summary(self, exchanges: Sequence[Exchange]) -> tuple[str, int]:
        """Of as many of the exchanges as fit, and how many these are. "" where the model has nothing to say."""
        await self._out.status("summarising the beginning of this conversation")
        taken = 0

        async def build() -> Request:
            nonlocal taken
            messages, taken = summary.request(self._conversation.summary, exchanges, self._asking.window.room)
            return Request(messages)

        async def unseen(text: str) -> None:
            pass

        try:
            return (await self._asking.answer(build, unseen)).text.strip(), taken
        except NoAnswer as failure:
            log.warning("%s: the beginnings of what was said stand for a summary", failure)
            return "", taken

    def _does_not_fit(self, made: Request) -> str:
        tokens = self._asking.window.in_tokens
        return (
            f"this message does not fit into the window of the model {self._asking.model.name}: the request has some "
            f"{tokens(made.size)} tokens, {tokens(window.size_of_schemas(made.schemas))} of them for describing tools, "
            f"and may have {tokens(self._asking.window.room)}; mcp_servers.NAME.tools.include offers fewer tools"
        )


def _valid(call: Call) -> bool:
    try:
        arguments_of(call.arguments)
    except BadArguments:
        return False
    return True


def _counts(usage: dict[str, int]) -> str:
    return f"{usage.get('prompt_tokens', 0)} + {usage.get('completion_tokens', 0)} tokens"
