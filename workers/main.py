"""The worker process: one session, its agent and its MCP servers, for as long as the supervisor wants it.

`run` is called once, by a keeper's forked child or by ``python -m hermesd.workers``, and returns the exit status. Two
threads of ours: the link thread owns the socket; this one runs the event loop with the agent, and starts every MCP
child, for a child's parent-death signal is bound to the thread that made it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import logging
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from hermesd.ipc import codec
from hermesd.ipc.errors import LocalError
from hermesd.ipc.link import Confirmed, EpochOpened, Event, Link, Received
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Accept,
    AccessToken,
    Answer,
    Ask,
    Assign,
    Entry,
    Equip,
    Finished,
    Hello,
    Interrupt,
    KnownTools,
    Listed,
    Message,
    Ready,
    RestartServer,
    Rewind,
    Serve,
    ServerReport,
    Servers,
    SharedCall,
    SharedCancel,
    SharedResult,
    Snapshot,
    StartAnswer,
    StartTurn,
    Steer,
    Steered,
    Stop,
)
from hermesd.ipc.schema import schema_of
from hermesd.ipc.sockets import CurveClient
from hermesd.ipc.version import VERSION
from hermesd.workers import containment
from hermesd.workers.agents import factory
from hermesd.workers.agents.contract import Agent, Sample, SampleRequest, Session, Turn
from hermesd.workers.containment import identity, procfs
from hermesd.workers.errors import NoAgent, TurnFailed
from hermesd.workers.mcp.gate import Gate
from hermesd.workers.mcp.servers import Servers as McpServers
from hermesd.workers.mcp.shared import Holder, SharedCalls
from hermesd.workers.mcp.tokens import Tokens
from hermesd.workers.spec import WorkerSpec

from . import in_words, snapshots, stickers
from .capture import Capture
from .link_thread import LinkThread, Unsendable
from .logs import WireHandler, install, quieten
from .out import TurnOut
from .watchdog import Watchdog

log = logging.getLogger("hermesd.worker")

CODEC = codec.Codec(*DOWN, *UP, accepts=DOWN)
"""Made at import, which is in the keeper: its compiled schemas are shared pages of every worker."""

schema_of(WorkerSpec)
quieten()

CANCEL_AFTER = 1.0
"""Seconds that an agent with an ``interrupt`` method of its own has before its turn is cancelled all the same."""

REAP_EVERY = 1.0
"""Seconds between looks for dead orphans that this process has adopted, while it has children at all."""

KEEPER_GONE = 72
"""Exit status of a worker without a keeper, and without a supervisor that would find it another one."""

FLUSH_SECONDS = 2.0
"""How long a stopping worker tries to get its last messages out."""


class Worker:
    """One worker's main thread."""

    def __init__(
        self,
        spec: WorkerSpec,
        loop: asyncio.AbstractEventLoop,
        handler: WireHandler,
        capture: Capture,
        keeper_pidfd: int,
        watchdog: Watchdog,
    ):
        self._spec = spec
        self._loop = loop
        self._handler = handler
        self._agent: Agent | None = None
        self._agent_error = ""
        self._session: Session | None = None
        self._assign_message: Assign | None = None
        self._assigned = asyncio.Event()
        self._stop: asyncio.Future[Stop] = loop.create_future()
        self._turn: StartTurn | None = None
        self._turn_task: asyncio.Task[None] | None = None
        self._interrupted = ""
        self._cut_off = False
        self._out: TurnOut | None = None
        self._seen: set[str] = set()
        self._last_end: Finished | None = None
        self._confirmations: dict[int, asyncio.Future[None]] = {}
        self._answers: dict[str, asyncio.Future[str]] = {}
        self._asks: dict[str, Ask] = {}  # whose answers are waited for
        self._tasks: set[asyncio.Task[None]] = set()
        self._reaping = False
        self._tokens = Tokens(self._post)
        self._shared = SharedCalls(self._post)
        self._holder: Holder | None = None
        self._containment = containment.open_containment(spec.containment, spec.instance, place=spec.container)
        self._gate = Gate(lambda message: self._link.post(message))
        self._equip: Equip | None = None  # waits for the end of the turn
        self._servers = McpServers(
            spec.servers,
            containment=self._containment,
            worker=spec.worker,
            tag=spec.tag,
            log_dir=Path(spec.log_dir),
            base_env=dict(os.environ),
            grace=spec.stop_grace,
            warden=self._gate,
            on_change=self._servers_changed,
            model=self,
            token=self._tokens.token,
            shared=self._shared,
        )
        self._link = LinkThread(
            endpoint=spec.endpoint,
            identity=spec.wire_name,
            link=Link(CODEC),
            hello=Hello(spec.worker, spec.token, os.getpid(), identity.start_ticks(os.getpid()) or 0, VERSION),
            heartbeat=spec.heartbeat,
            idle_heartbeat=spec.idle_heartbeat,
            call_soon=loop.call_soon_threadsafe,
            on_event=self._on_event,
            logs=handler,
            keeper_pidfd=keeper_pidfd,
            adopt_timeout=spec.adopt_timeout,
            watchdog=watchdog,
            on_abandoned=self._abandoned,
            captures=[capture],
            security=_security(spec),
        )

    async def run(self) -> int:
        """Serve until told to stop. Returns the exit status."""
        self._link.start()
        stop = await self._stop
        await self._shut_down(stop)
        self._link.stop(FLUSH_SECONDS)
        return 0

    async def _shut_down(self, stop: Stop) -> None:
        log.info("stopping: %s", stop.reason)
        if self._turn_task is not None and not self._turn_task.done():
            self._cut_off = not self._interrupted
            self._turn_task.cancel()
            await asyncio.wait([self._turn_task], timeout=stop.grace)
        if self._agent is not None and self._session is not None:
            try:
                await asyncio.wait_for(snapshots.keep(self._agent, self._session), stop.grace)
            except TimeoutError:
                log.warning("the agent's snapshot took longer than %g s", stop.grace)
            try:
                await asyncio.wait_for(factory.optional(self._agent, "close"), stop.grace)
            except TimeoutError:
                log.warning("the agent's close took longer than %g s", stop.grace)
            except Exception:  # anybody's code; the servers are stopped politely all the same
                log.exception("the agent's close failed")
        await self._servers.stop(stop.grace)

    # ---- events of the link ------------------------------------------------------------------------------------------

    def _on_event(self, event: Event | Unsendable) -> None:
        if isinstance(event, Unsendable):
            self._unsendable(event.message, event.error)
            return
        if isinstance(event, Confirmed):
            waiter = self._confirmations.pop(id(event.message), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            return
        if isinstance(event, EpochOpened):
            self._tell_state()
            return
        assert isinstance(event, Received)
        message = event.message
        match message:
            case Assign():
                # A supervisor that has taken over cannot know whether the one before it got so far.
                if self._assign_message is None:
                    self._assign_message = message
                    self._start_task(self._assign(message), "assign")
            case StartTurn():
                self._take_turn(message)
            case Interrupt():
                self._interrupt(message)
            case Steer():
                self._start_task(self._steer(message), "steer")
            case Rewind():
                if self._session is not None and message.entries > 0:
                    del self._session.history[-message.entries :]
            case Answer():
                answer = self._answers.pop(message.ask, None)
                if answer is not None and not answer.done():
                    answer.set_result(message.choice)
            case RestartServer():
                self._servers.restart(message.name)
            case StartAnswer() | KnownTools():
                self._gate.answered(message)
            case Equip():
                self._equip = message
                self._equip_if_idle()
            case AccessToken():
                self._tokens.got(message)
            case SharedResult():
                self._shared.got(message)
            case Serve():
                self._hold(message.server)
            case SharedCall() if self._holder is not None:
                self._holder.take(message)
                self._reap_while_needed()
            case SharedCancel() if self._holder is not None:
                self._holder.cancel(message)
            case Stop():
                if not self._stop.done():
                    self._stop.set_result(message)
            case _:
                log.warning("ignored a %s of the supervisor", message.KIND)

    def _unsendable(self, message: Message, error: LocalError) -> None:
        """Tell whoever waits for it: the agent that sends or asks, or the user of a turn."""
        log.error("%s", error)
        waiter: asyncio.Future[None] | asyncio.Future[str] | None = self._confirmations.pop(id(message), None)
        if isinstance(message, Ask):
            waiter = self._answers.pop(message.ask, None)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if isinstance(message, Finished):
            self._post_end(Finished(message.turn, "failed", error=str(error)))
        if isinstance(message, Listed):
            log.warning("the tools of MCP server %s are too much to be told to other sessions", message.server)
        if isinstance(message, SharedCall):
            self._shared.got(SharedResult(message.call, error=str(error)))
        if isinstance(message, SharedResult):
            self._link.post(SharedResult(message.call, error=f"the result cannot be handed on: {error}"))
        if isinstance(message, Snapshot):
            self._link.post(replace(message, text="", breaks=()))  # the text will not fit into the turn's end either

    def _start_task(self, coroutine: object, name: str) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    def _durable(self, message: Message) -> asyncio.Future[None]:
        """Post a durable message; the future is done when the supervisor has it on disk."""
        confirmed: asyncio.Future[None] = self._loop.create_future()
        self._confirmations[id(message)] = confirmed
        self._link.post(message)
        return confirmed

    def _asked(self, ask: Ask) -> asyncio.Future[str]:
        self._asks[ask.ask] = ask
        self._answers[ask.ask] = answer = self._loop.create_future()
        answer.add_done_callback(lambda _: self._asks.pop(ask.ask, None))
        self._link.post(ask)
        return answer

    def _post(self, message: Message) -> None:
        self._link.post(message)

    # ---- what MCP servers ask for ------------------------------------------------------------------------------------

    def can_sample(self) -> bool:
        return self._agent is not None and factory.has(self._agent, "sample")

    async def sample(self, request: SampleRequest) -> Sample:
        found = await factory.optional(self._agent, "sample", request)
        if not isinstance(found, Sample):
            raise TypeError(f"the agent's sample() returned a {type(found).__name__}; it must return a Sample")
        return found

    def _hold(self, server: str) -> None:
        if self._holder is None:
            self._holder = Holder(
                server,
                self._post,
                partial(self._servers.call, server),
                partial(self._servers.tools_of, server),
                partial(self._servers.start_one, server),
            )
            self._servers.hold(server)

    # ---- what a new supervisor has to be told ------------------------------------------------------------------------

    def _tell_state(self) -> None:
        """For a supervisor that has taken over and knows no more than the journal does."""
        assign = self._assign_message
        self._link.post(
            Snapshot(
                session_key=assign.session_key if assign is not None else "",
                session_id=assign.session_id if assign is not None else "",
                ready=self._assigned.is_set(),
                error=self._agent_error,
                turn=self._turn.turn if self._turn is not None else "",
                text=self._out.text if self._turn is not None and self._out is not None else "",
                breaks=tuple(self._out.breaks) if self._turn is not None and self._out is not None else (),
                asks=tuple(self._asks.values()),
            )
        )
        self._link.post(Servers(self._servers.reports()))
        self._gate.ask_again()
        self._tokens.ask_again()
        self._shared.lost()

    def _equip_if_idle(self) -> None:
        if self._equip is not None and self._turn is None:
            equip, self._equip = self._equip, None
            self._servers.equip(equip.servers)

    def _servers_changed(self, reports: tuple[ServerReport, ...]) -> None:
        self._link.post(Servers(reports))
        self._reap_while_needed()

    def _reap_while_needed(self) -> None:
        if not self._reaping:
            self._reaping = True
            self._start_task(self._reap_orphans(), "reap orphans")

    async def _reap_orphans(self) -> None:
        """Reap what agent and servers orphan, while there is a turn or a child; an idle worker sleeps."""
        try:
            while self._turn is not None or procfs.own_children():
                self._containment.reap_adopted()
                await asyncio.sleep(REAP_EVERY)
        finally:
            self._reaping = False

    def _abandoned(self) -> None:
        """Called by the link thread. Nobody is left to empty this container, so the worker does, itself included."""
        log.error("keeper and supervisor are gone: ending")
        container = self._containment.worker(self._spec.worker, self._spec.tag)
        while not container.kill_round():
            time.sleep(0.01)
        os._exit(KEEPER_GONE)

    # ---- session and turns -------------------------------------------------------------------------------------------

    async def _assign(self, message: Assign) -> None:
        workdir = Path(message.workdir)
        try:
            workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chdir(workdir)
            self._session = Session(
                key=message.session_key,
                id=message.session_id,
                platform=message.platform,
                chat=message.chat_id,
                user=message.user_id,
                user_name=message.user_name,
                history=list(message.history),
                mcp=self._servers,
                settings=dict(message.settings),
                workdir=workdir,
                thread=message.thread_id,
            )
            made = factory.load(self._spec.agent, self._spec.agent_path)(self._session)
            agent = await made if inspect.isawaitable(made) else made
            await snapshots.give_back(agent, self._session)
            self._agent = agent
        except NoAgent as error:
            self._agent_error = str(error)
            log.exception("%s", self._agent_error)
        except Exception as error:  # anybody's code: whatever it raises is this session's problem, told with each turn
            self._agent_error = f"cannot make the agent {self._spec.agent!r}: {type(error).__name__}: {error}"
            log.exception("%s", self._agent_error)
        self._assigned.set()
        self._link.post(Ready(self._agent_error))

    def _take_turn(self, message: StartTurn) -> None:
        if message.turn in self._seen:
            # Sent again by a supervisor that did not get the end, or did not get it onto its disk.
            if self._last_end is not None and self._last_end.turn == message.turn:
                self._link.post(self._last_end)
            return
        self._seen.add(message.turn)
        if self._turn_task is not None and not self._turn_task.done():
            log.error("refused turn %s: turn %s still runs", message.turn, self._turn and self._turn.turn)
            self._link.post(Finished(message.turn, "failed", error="another turn of this session still runs"))
            return
        self._turn = message
        self._interrupted = ""
        self._link.turn_is(message.turn)
        self._handler.turn = message.turn
        self._turn_task = self._loop.create_task(self._run_turn(message), name=f"turn {message.turn}")
        self._reap_while_needed()

    async def _run_turn(self, message: StartTurn) -> None:
        self._out = out = TurnOut(
            message.turn,
            post=self._link.post,
            backlog=lambda: self._link.backlog,
            durable=self._durable,
            asked=self._asked,
        )
        outcome, text, error, given = "done", "", "", message.text
        cut_calls = self._servers.cut_calls()
        deadline = asyncio.timeout(None)
        try:
            await self._assigned.wait()
            # The agent starts only when the acceptance is on disk: else a crash now would have it run twice.
            await self._durable(Accept(message.turn))
            if self._agent is None:
                raise NoAgent(self._agent_error)
            assert self._session is not None
            self._session.config = message.config
            deadline = asyncio.timeout(message.timeout or None)
            turn = Turn(
                message.turn, message.text, message.sender, message.sender_name, message.attachments, message.attempt
            )
            async with deadline:
                turn = in_words.of_files(await stickers.in_words(self._agent, turn, self._link.post))
                given = turn.text
                answer = await factory.run_turn(self._agent, turn, out)
            text = out.text if answer is None else codec.clean(answer)
            if self._interrupted:
                # An agent that was asked to end and did so in its own way: what it gives is what there is.
                outcome, error = "interrupted", self._interrupted
        except asyncio.CancelledError:
            if self._interrupted:
                outcome, text, error = "interrupted", out.text, self._interrupted
            elif not self._cut_off:
                # It waited for something of its own that was cancelled. Without an end the turn would run for ever.
                log.exception("turn %s failed", message.turn)
                outcome, text, error = "failed", out.text, "the agent cancelled itself"
        except NoAgent as failure:
            outcome, error = (
                "failed",
                codec.clean(str(failure)),
            )  # its traceback was logged when the agent was to be made
        except TurnFailed as failure:
            log.warning("turn %s failed: %s", message.turn, failure)
            outcome, text, error = "failed", out.text, codec.clean(str(failure))
        except Exception as failure:  # an agent may raise anything; it and its servers are kept for the next message
            if self._interrupted:
                outcome, text, error = "interrupted", out.text, self._interrupted
            elif deadline.expired():
                outcome, text, error = "failed", out.text, f"the turn took longer than {message.timeout:g} s"
            else:
                log.exception("turn %s failed", message.turn)
                outcome, text, error = "failed", out.text, codec.clean(f"{type(failure).__name__}: {failure}")
        finally:
            self._answers.clear()
            self._asks.clear()
        if self._cut_off:
            return  # this worker is ended with its turn, whose fate the supervisor decides: it may be another's now
        if outcome == "interrupted" or deadline.expired():
            self._servers.end_cut_off(cut_calls)
        self._remember(given, outcome, text)
        self._turn = self._out = None
        self._equip_if_idle()
        self._link.turn_is("")
        self._handler.turn = ""
        told = given if given != message.text else ""
        self._post_end(Finished(message.turn, outcome, text, error, out.used, told))

    def _post_end(self, finished: Finished) -> None:
        self._last_end = finished
        if self._agent is not None and factory.has(self._agent, "settled"):
            self._durable(finished).add_done_callback(self._settled)
        else:
            self._link.post(finished)

    def _settled(self, confirmed: asyncio.Future[None]) -> None:
        if not confirmed.cancelled() and confirmed.exception() is None:
            self._start_task(factory.optional(self._agent, "settled"), "settled")

    def _remember(self, given: str, outcome: str, text: str) -> None:
        """Keep the worker's history what the journal's transcript is: turns with an answer, even a partial one."""
        if self._session is None or outcome == "failed" or (outcome == "interrupted" and not text):
            return
        now = time.time()
        self._session.history.append(Entry("user", given, now))
        self._session.history.append(Entry("assistant", text, now))

    def _interrupt(self, message: Interrupt) -> None:
        if self._turn is None or self._turn_task is None or message.turn != self._turn.turn:
            return
        self._interrupted = message.reason or "interrupted"
        self._start_task(self._interrupt_agent(self._turn_task), "interrupt")

    async def _interrupt_agent(self, task: asyncio.Task[None]) -> None:
        if self._agent is not None and factory.has(self._agent, "interrupt"):
            try:
                await asyncio.wait_for(factory.optional(self._agent, "interrupt", self._interrupted), CANCEL_AFTER)
                await asyncio.wait([task], timeout=CANCEL_AFTER)
            except TimeoutError:
                log.warning("the agent's interrupt took longer than %s s", CANCEL_AFTER)
            except Exception:  # anybody's code; the cancellation below does what it did not
                log.exception("the agent's interrupt failed")
        task.cancel()

    async def _steer(self, message: Steer) -> None:
        taken = False
        if self._agent is not None and self._turn is not None and message.turn == self._turn.turn:
            try:
                taken = bool(await factory.optional(self._agent, "steer", message.text))
            except Exception:  # anybody's code; the supervisor queues what was not taken
                log.exception("the agent's steer failed")
        self._link.post(Steered(message.turn, taken))


def _security(spec: WorkerSpec) -> CurveClient | None:
    keys = spec.curve
    return CurveClient(keys.public.encode(), keys.secret.encode(), keys.server.encode()) if keys is not None else None


def read_spec(spec_fd: int) -> WorkerSpec:
    """Read the descriptor to its end and close it."""
    with os.fdopen(spec_fd, "rb") as told:
        return codec.unpack_value(WorkerSpec, told.read())


def run(spec: WorkerSpec) -> int:
    """Become the worker that the spec describes; the process is in its container already."""
    keeper_pidfd = _watch(spec.keeper)
    os.environ.clear()
    for name, value in spec.environment.items():  # `update` asks for an abstract base class, which looks at all others
        os.environ[name] = value
    os.environ["HERMESD_TAG"] = spec.tag
    # Not standard error: that is a pipe to a thread of this process. faulthandler writes to the file until the end.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    stacks = os.open(spec.stacks or os.devnull, flags, 0o600)
    if spec.stacks:
        faulthandler.enable(stacks)
        faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
    handler = install(spec.log_level)
    capture = Capture(handler)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    status = loop.run_until_complete(Worker(spec, loop, handler, capture, keeper_pidfd, Watchdog(stacks)).run())
    # Not sys.exit: the interpreter's finalisation waits for every non-daemon thread of anybody's agent.
    os._exit(status)


def _watch(keeper: int) -> int:
    """A descriptor that is readable once the keeper is dead; -1 where there is no keeper, or the system has none."""
    if not keeper or not hasattr(os, "pidfd_open"):
        return -1
    try:
        pidfd = os.pidfd_open(keeper)
    except ProcessLookupError:
        return os.eventfd(1, os.EFD_CLOEXEC)
    # The pid may have been another process's by the time of the open; a child's parent cannot.
    if os.getppid() == keeper:
        return pidfd
    os.close(pidfd)
    return os.eventfd(1, os.EFD_CLOEXEC)
