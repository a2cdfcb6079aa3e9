"""The agent ``hermes``: hosts hermes-agent's AIAgent, one for the worker's life as long as its settings stay the same.

The AIAgent is synchronous: each run has a thread of its own, and what it says comes to the loop through a queue
(`speaking`). Nothing is made again because a run failed; the MCP servers are the session's, whatever becomes of
AIAgents.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hermesd.ipc.messages import File
from hermesd.workers.agents.contract import Out, Session, Turn
from hermesd.workers.errors import TurnFailed

from . import library, results, sending
from .approvals import Approvals
from .jobs import Jobs
from .memory import Memory
from .results import Message, Result
from .speaking import Speaking
from .toolbox import Toolbox, sent_by

log = logging.getLogger("hermesd.hermes")

PATIENCE = 300.0
"""Seconds that a question of hermes-agent's waits where its configuration does not say."""


def make(session: Session) -> Hermes:
    """The factory, as ``hermesd.agent: hermes`` names it."""
    return Hermes(session)


class Hermes:
    """One conversation. Made on the loop's thread; see `hermesd.workers.agents.contract.Agent`."""

    def __init__(self, session: Session) -> None:
        # hermes-agent's tools look for these; a worker has one session, so that its environment may hold them.
        os.environ.update(HERMES_EXEC_ASK="1", HERMES_SESSION_KEY=session.key, HERMES_QUIET="1")
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._memory = Memory(session.workdir, session.id, session.history)
        self._toolbox = Toolbox(session, self._loop, self._send_message)
        self._agent: Any = None
        self._made_of = ""
        self._totals: dict[str, int] = {}
        self._out: Out | None = None  # of the last turn that began: also what happens after it is told there
        self._approvals: Approvals | None = None
        self._run: asyncio.Future[Any] | None = None
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs = Jobs(session, self._post, _in_thread)

    async def turn(self, turn: Turn, out: Out) -> str | None:
        if self._run is not None and not self._run.done():
            raise TurnFailed("hermes-agent has not ended its last run yet; /stop once more ends it with its worker")
        self._stopped = False
        if self._out is None:  # from now on there is something that a job's message can be a part of
            self._spawn(self._jobs.run(), "hermes-agent's jobs")
        self._out = out
        toolsets = await self._toolbox.refresh()
        patience = _patience()
        speaking = Speaking(out, self._toolbox.called, self._toolbox.wait, patience)
        said = asyncio.create_task(speaking.run(), name="hermes-agent's words")
        self._approvals = Approvals(self._session.key, out, patience, self._spawn)
        self._approvals.begin()
        try:
            history = known = self._memory.messages(self._session.history)
            text, files = turn.text, turn.attachments
            while True:
                result = await self._run_once(text, files, known, toolsets, speaking)
                await self._count(result, out)
                if not result.pending or result.failure or result.interrupted:
                    break
                # Came too late for a step of that run: it is answered in the same turn, after what was said so far.
                speaking.go_on(result.text)
                known = results.so_far(known, text, result)
                text, files = result.pending, ()
        finally:
            self._approvals.end()
            speaking.finish()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(said)
            speaking.over()
            if self._stopped:
                await self._toolbox.ended()
        return self._answer(turn, result, history, speaking)

    def interrupt(self, reason: str) -> None:
        """End the request and the tools; what has been said stays."""
        self._stopped = True
        if self._approvals is not None:
            self._approvals.end()
        if self._agent is not None and self._run is not None and not self._run.done():
            self._agent.interrupt()
        self._toolbox.interrupt()

    def steer(self, text: str) -> bool:
        """A user's words between two steps; hermes-agent adds them to the next result of a tool."""
        running = self._run is not None and not self._run.done() and not self._stopped
        return bool(running and hasattr(self._agent, "steer") and self._agent.steer(text))

    async def close(self) -> None:
        """End what the AIAgent has started. Its session goes on in another worker, so that is not told of an end."""
        if self._agent is not None:
            await asyncio.wait_for(asyncio.shield(_in_thread("close hermes-agent", self._agent.close)), None)

    # ---- a run -------------------------------------------------------------------------------------------------------

    async def _run_once(
        self, text: Any, files: Sequence[File], history: list[Message], toolsets: list[str], speaking: Speaking
    ) -> Result:
        def work() -> Any:
            config = library.configuration()
            self._bind_session()
            agent = self._agent_for(config, toolsets)
            for name, callback in speaking.callbacks().items():
                setattr(agent, name, callback)
            if self._stopped:
                return {"interrupted": True}
            message = sending.received(text, files, config, agent)
            return agent.run_conversation(
                message, **library.accepted(agent.run_conversation, {
                    "conversation_history": history, "task_id": self._memory.session_id,
                }),
            )  # fmt: skip

        self._run = run = _in_thread("hermes-agent", work)
        try:
            found = await asyncio.shield(run)
        except asyncio.CancelledError:
            self.interrupt("cancelled")
            # Two runs of one AIAgent must not overlap. A second cancellation leaves the thread to itself.
            await asyncio.wait([run])
            if not run.cancelled():
                run.exception()
            raise
        if (now := str(getattr(self._agent, "session_id", "") or "")) and now != self._memory.session_id:
            log.info("hermes-agent's session is %s now, it was %s", now, self._memory.session_id)
            self._memory.session_id = now
        result = results.read(found)
        # It has looked for the last time before its thread ended; what was taken after that is no less a user's.
        drain = getattr(self._agent, "_drain_pending_steer", None)
        late = drain() if drain is not None else None
        return replace(result, pending=f"{result.pending}\n{late}".strip()) if late else result

    def _bind_session(self) -> None:
        """In the thread of the run, whose threads for tools take its context along."""
        session = self._session
        bind = library.function("gateway.session_context", "set_session_vars")
        if bind is not None:
            bind(**library.accepted(bind, {
                "platform": session.platform, "chat_id": session.chat, "thread_id": session.thread,
                "user_id": session.user, "user_name": session.user_name, "session_key": session.key,
                "session_id": self._memory.session_id, "cwd": str(session.workdir),
                # What ends after the turn has no way to begin another one.
                "async_delivery": False,
            }))  # fmt: skip
        library.approval.set_current_session_key(session.key)

    def _agent_for(self, config: dict[str, Any], toolsets: list[str]) -> Any:
        """The AIAgent that there is, or another one where what it was made of has changed."""
        wanted = library.constructor(config, self._session.platform)
        wanted["enabled_toolsets"] = sent_by([*wanted["enabled_toolsets"], *toolsets])
        made_of = json.dumps(
            [{name: value for name, value in wanted.items() if name != "credential_pool"}, self._toolbox.print],
            sort_keys=True, default=str,
        )  # fmt: skip
        if self._agent is not None and made_of == self._made_of and not self._left_its_model(wanted["model"]):
            return self._agent
        before, self._agent = self._agent, None
        library.bridge_terminal(config, str(self._session.workdir))
        session = self._session
        wanted |= {
            "quiet_mode": True, "platform": session.platform, "session_id": self._memory.session_id,
            "user_id": session.user, "user_name": session.user_name, "chat_id": session.chat,
            "thread_id": session.thread or None, "gateway_session_key": session.key,
        }  # fmt: skip
        with _own_logging():
            made = library.run_agent.AIAgent(**library.accepted(library.run_agent.AIAgent.__init__, wanted))
        if hasattr(made, "_print_fn"):
            made._print_fn = _print
        if before is not None and hasattr(before, "release_clients"):
            before.release_clients()
        log.info("made an AIAgent: model %s, %d tools", wanted["model"], len(getattr(made, "tools", None) or ()))
        self._agent, self._made_of, self._totals = made, made_of, {}
        return made

    def _left_its_model(self, model: str) -> bool:
        """Whether a fallback has answered last and this version does not go back to its first model by itself."""
        return self._agent.model != model and not hasattr(self._agent, "_restore_primary_runtime")

    async def _count(self, result: Result, out: Out) -> None:
        if used := results.spent(result.totals, self._totals):
            await out.usage(used)
        self._totals = {**self._totals, **result.totals}

    def _answer(self, turn: Turn, result: Result, history: list[Message], speaking: Speaking) -> str | None:
        if result.failure:
            raise TurnFailed(result.failure)
        if result.interrupted and not self._stopped:
            raise TurnFailed("hermes-agent interrupted itself")
        if result.messages:
            self._memory.remember(history, turn.text, result.messages)
        if result.interrupted:
            return None
        return results.rest_of(speaking.said, speaking.last, result.text)

    # ---- messages besides the answer ---------------------------------------------------------------------------------

    def _send_message(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """In a thread of hermes-agent's."""
        return sending.send(arguments, self._session, self._post)

    def _post(self, target: str, text: str) -> None:
        """In a thread of hermes-agent's; a message of the last turn that began, also once it is over."""
        if self._out is None:
            raise TurnFailed("there was no turn yet that it could be a message of")
        self._toolbox.wait(self._out.send(target, text))

    def _spawn(self, coroutine: Any, name: str) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


def _in_thread(name: str, work: Callable[[], Any]) -> asyncio.Future[Any]:
    """The future of what a daemon thread returns: the end of the worker waits for none of hermes-agent's."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def tell(set_it: Callable[[Any], None], value: Any) -> None:
        if not ended.cancelled():
            set_it(value)

    def body() -> None:
        try:
            value = work()
        except SystemExit as error:
            loop.call_soon_threadsafe(tell, ended.set_exception, RuntimeError(f"it called sys.exit({error.code!r})"))
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for the end of this thread
            loop.call_soon_threadsafe(tell, ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(tell, ended.set_result, value)

    threading.Thread(target=contextvars.copy_context().run, args=(body,), name=name, daemon=True).start()
    return ended


def _patience() -> float:
    approvals = library.configuration().get("approvals")
    found = approvals.get("timeout") if isinstance(approvals, dict) else None
    return float(found) if isinstance(found, int | float) and found > 0 else PATIENCE


@contextlib.contextmanager
def _own_logging() -> Any:
    """An AIAgent gives the root logger files and a level; a worker's records go over the wire."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in list(root.handlers):
            if handler not in handlers:
                root.removeHandler(handler)
        root.setLevel(level)


def _print(*words: Any, **_: Any) -> None:
    """What it would write to a terminal."""
    if text := " ".join(map(str, words)).strip():
        log.debug("%s", text)
