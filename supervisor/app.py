"""Builds hermesd in order, starts it in order, and stops it in reverse. It sees all parts and only joins them.

The order of a start::

    lock -> keepers of an earlier life -> journal -> sweep -> its workers -> pool (socket, keeper, spares) -> ways in
    -> its messages -> control socket

The lock comes first because a second bind on a live socket path succeeds silently; the keepers that live next, because
they end everything when nobody claims them in time; the journal before the sweep, for it knows whom to spare; the sweep
before our own keeper, so that it cannot meet that one's children; the control socket last, so that whoever reaches it
reaches a whole hermesd.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import AdapterSettings, CanAttach, HasConsole, HasMenu, MenuEntry, capability
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.media.store import sweep
from hermesd.ipc.messages import Logs
from hermesd.workers import containment
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.spec import WorkerSpec

from . import logs, worker_template
from .access.policy import AccessPolicy
from .config.budget import StopBudget, derive
from .config.environment import platform_environment
from .config.loader import Loaded
from .config.models import agent_config
from .control.handlers import ControlHandlers
from .control.server import ControlServer
from .delivery.deliverer import Deliverer
from .delivery.settings import DeliverySettings, Places, Streaming
from .errors import Escalation, HermesdError, StartFailed
from .gateway.busy import BusyMode
from .gateway.commands.registry import Commands
from .gateway.commands.table import TABLE
from .gateway.lane_settings import LaneSettings
from .gateway.lanes import Lanes
from .gateway.reception import Reception, Rules
from .gateway.stickers import Stickers
from .instance import pidfile
from .instance.keepers import Keepers
from .instance.paths import Paths
from .journal import Journal, pauses, retention, workers
from .journal.errors import JournalUnavailable
from .lag import LoopLag
from .platforms import Platforms
from .pool.census import is_contained
from .pool.curve import Keys
from .pool.launchers.adopted import AdoptedKeeper
from .pool.launchers.claiming import Claims
from .pool.launchers.contract import LauncherListener
from .pool.launchers.keeper import KeeperLauncher
from .pool.pool import Pool
from .pool.takeover import Takeover, survey
from .pool.usage import Sampler
from .pool.watch import Watch
from .pool.worker import Worker
from .reloading import Reloader
from .surroundings import missing_commands
from .tasks import Tasks

log = logging.getLogger("hermesd.app")

SWEEP_SECONDS = 5.0

DAY = 24 * 60 * 60.0

MEDIA_KEPT = DAY
"""Seconds that a file of a message stays, whatever became of the message; hermes-agent keeps as long."""

MEDIA_SWEEP = 60 * 60.0

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that hermesd handles."""

LAST_WRITES_SECONDS = 2.0
"""For the ends of turns, when everything else has stopped."""

RESTART_IN_PLACE = -1
"""No exit status: the process goes on as another image."""

LOCAL = "local"
"""The platform of the terminal and of ``hermesctl chat``; always there, for who holds the terminal is allowed."""


@dataclass(frozen=True, slots=True)
class StopReport:
    """What a stop had to do. ``interrupted``: turns that were still running when their time was over."""

    interrupted: int
    killed: int
    took: float


class App:
    """One life of hermesd. Made and run by ``supervisor/cli/hermesd.py``, under the instance's lock."""

    def __init__(self, loaded: Loaded, paths: Paths, *, tail: logs.Tail, reread: Callable[[], Loaded], claims: Claims):
        self.loaded = loaded
        self.paths = paths
        self.tail = tail
        self.started_at = time.time()
        self.budget: StopBudget = derive(loaded.settings.hermesd.stop_budget_seconds)
        self.stop_requested = asyncio.Event()
        self.stopped = asyncio.Event()
        self.stop_report: StopReport | None = None
        self.state = "starting"
        self.draining_since = 0.0  # once it stops, Unix seconds
        self.console = False
        self.restart_requested = asyncio.Event()
        self._claims = claims
        self._keepers = Keepers(paths.keepers, (claimed.record for claimed in claims.held))
        self._hurry = asyncio.Event()
        self._failure: HermesdError | None = None
        self._stop_timeout: float | None = None
        self._stop_progress: list[Callable[[str, int, float], None]] = []
        self.tasks = Tasks(self._task_failed)
        self.journal = Journal(paths.journal)
        self.platforms = Platforms(self.tasks, environ=loaded.environ, home=paths.home, on_up=self._platform_up)
        self.deliverer = Deliverer(self.journal, self.platforms.live, self.tasks, self.delivery_settings())
        self.stickers = Stickers(paths.home / "sticker_cache.json")
        self.lanes = self._make_lanes()
        self.pool = self._make_pool()
        self.lanes.use(self.pool)
        self.watch = self._make_watch()
        self.reception = self._make_reception()
        self.reloader = Reloader(self, reread)
        self._reload_due = False
        self.sampler = Sampler(self.pool)
        self.lag = LoopLag()
        self.control = ControlServer(paths.control_socket, ControlHandlers(self), self.contained)

    # ---- building ----------------------------------------------------------------------------------------------------

    def lane_settings(self) -> LaneSettings:
        """What the configuration says about sessions, as it is in effect now."""
        ours = self.loaded.settings.hermesd
        return LaneSettings(
            max_workers=ours.workers.max,
            max_turns=ours.workers.max_turns,
            idle_timeout=ours.workers.idle_timeout_seconds,
            on_crash=ours.workers.on_crash,
            turn_timeout=ours.workers.turn_timeout_seconds,
            quiet_timeout=self.loaded.settings.agent.gateway_timeout_seconds,
            quiet_warning=self.loaded.settings.agent.gateway_timeout_warning_seconds,
            stop_grace=self._server_grace(),
            work_dir=self._work,
            agent_settings=dict(ours.agent_settings),
            agent_config=agent_config(self.loaded.settings, self.loaded.environ),
        )

    def delivery_settings(self) -> DeliverySettings:
        """What the configuration says about messages to chats, as it is in effect now."""
        settings = self.loaded.settings
        streaming = settings.streaming
        return DeliverySettings(
            streaming=Streaming(
                enabled=streaming.enabled,
                interval=streaming.edit_interval_seconds,
                threshold=streaming.buffer_threshold,
                cursor=streaming.cursor,
            ),
            reply_to_mode={name: platform.reply_to_mode for name, platform in settings.platforms.items()},
            places=Places(self.paths.home, self.paths.media, self._work),
        )

    @property
    def _work(self) -> Path:
        return self.paths.ours / "work"

    def _make_lanes(self) -> Lanes:
        return Lanes(
            settings=self.lane_settings(),
            journal=self.journal,
            deliverer=self.deliverer,
            tasks=self.tasks,
            stickers=self.stickers,
            on_escalation=self._escalate,
            on_logs=write_worker_logs,
        )

    def _server_grace(self) -> float:
        # An MCP server's polite stop has two waits of this length and a kill, all within the worker's own grace.
        return min(2.0, self.budget.worker_grace / 3)

    def worker_template(self) -> WorkerSpec:
        """What workers are told that start from now on."""
        return worker_template.template(self.loaded.settings, self.paths, self.loaded.environ, self._server_grace())

    def _make_launcher(self, listener: LauncherListener) -> KeeperLauncher:
        ours = self.loaded.settings.hermesd
        template = self.worker_template()
        return KeeperLauncher(
            listener,
            instance=self.paths.instance,
            run_dir=self.paths.sockets,
            log_file=self.paths.logs / "keeper.log",
            environment=template.environment,
            containment=ours.containment,
            agent=ours.agent,
            agent_path=ours.agent_path,
            preload=("hermesd.workers.mcp.server",) if template.servers else (),
            adopt_timeout=ours.adopt_timeout_seconds,
            keepers=self._keepers,
            lock=self.paths.lock,
            start_by=ours.workers.start_by,
        )

    def _make_pool(self) -> Pool:
        ours = self.loaded.settings.hermesd
        return Pool(
            self.lanes,
            make_launcher=self._make_launcher,
            endpoint=ours.workers.endpoint or f"ipc://{self.paths.worker_socket}",
            template=self.worker_template(),
            spare=ours.workers.spare,
            stacks_dir=self.paths.logs / "stacks",
            on_launcher_death=self._keeper_died,
            keys=Keys(self.paths.run / "curve") if ours.workers.endpoint else None,
        )

    def reception_rules(self) -> Rules:
        """What the configuration says about messages that come in, as it is in effect now."""
        settings = self.loaded.settings
        access = settings.access
        return Rules(
            policy=AccessPolicy(access.allowed, access.allow_all, access.gateway_allowed, access.gateway_allow_all),
            busy_mode=BusyMode(settings.hermesd.busy),
            group_sessions_per_user=settings.group_sessions_per_user,
            thread_sessions_per_user=settings.thread_sessions_per_user,
        )

    def _make_watch(self) -> Watch:
        return Watch(
            self.pool,
            hang_timeout=self.loaded.settings.hermesd.workers.hang_timeout_seconds,
            directory=self.paths.logs / "hangs",
            tasks=self.tasks,
            on_hung=self.lanes.worker_hung,
            on_look=self.lanes.check_time_limits,
        )

    def _make_reception(self) -> Reception:
        return Reception(
            journal=self.journal,
            lanes=self.lanes,
            deliverer=self.deliverer,
            commands=Commands(TABLE, lanes=self.lanes, journal=self.journal),
            tasks=self.tasks,
            rules=self.reception_rules(),
            stickers=self.stickers,
            media=self.paths.media,
            on_lost=self.platforms.lost,
        )

    # ---- starting ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything is up when this returns. Raises `HermesdError`, or what the part that failed raised."""
        await self.journal.open()
        await self.deliverer.recover()
        found = survey(await self.journal.read(workers.left), self._claims, self.paths.instance)
        await self._sweep(found.spare)
        self.paths.clear_sockets(spare=[Path(claimed.record.socket) for claimed in found.keepers])
        await self._take_over(found)
        await asyncio.gather(self.pool.start(), self._make_platforms())
        await self.platforms.start(self.reception, await self.journal.read(pauses.paused))
        await self.deliverer.take_up()
        await self.reception.resume()
        await self.control.open()
        self.tasks.spawn(self.sampler.run(), "usage sampler")
        self.tasks.spawn(self._prune_daily(), "retention")
        self.tasks.spawn(self.lag.run(), "loop lag")
        self.tasks.spawn(logs.tend(self.paths.logs), "log files")
        self.tasks.spawn(self.watch.run(), "worker watch")
        self.tasks.spawn(self.lanes.presence.run(), "typing")
        self.tasks.spawn(self._sweep_media(), "media sweep")
        pidfile.write(self.paths.pid_file, pidfile.own_record(self.paths.control_socket))
        self.state = "running"
        for problem in missing_commands(self.loaded):
            log.warning("%s; fix: %s", problem.sentence, problem.fix)
        if self._reload_due:
            self._reload_soon()
        log.info(
            "hermesd is up: pid %d, home %s, containment %s, %.2f s",
            os.getpid(), self.paths.home, self.pool.launcher.containment, time.time() - self.started_at,
        )  # fmt: skip

    async def _take_over(self, found: Takeover) -> None:
        """Rebuild what the workers of an earlier life were at, before the first of them can say a word."""
        over = list(found.over)
        keepers = {claimed: AdoptedKeeper(self.pool, claimed, self._keepers) for claimed in found.keepers}
        for keeper in keepers.values():
            self.pool.adopt_launcher(keeper)
        for claimed, unwanted in found.unwanted:
            keepers[claimed].reject(unwanted)
        self._claims.held.clear()  # they are the pool's now
        for heir in found.heirs:
            try:
                worker = self.pool.adopt(heir)
            except ContainmentError as error:
                log.error("cannot take over worker %s: %s", heir.estate.row.worker, error)
                over.append(heir.estate.row.worker)
                if heir.claimed is not None:
                    keepers[heir.claimed].reject(heir.estate.row.worker)
                continue
            self.lanes.adoption.take_over(heir.estate, worker)
        for name in over:
            await self.journal.write(workers.forget, name)

    async def _sweep(self, spare: Collection[int]) -> None:
        """Kill what an earlier life of this home left and nobody takes over; nothing else is ever touched."""
        deadline = time.monotonic() + SWEEP_SECONDS
        killed: dict[int, str] = {}
        for name in ("cgroup", "subreaper"):
            try:
                sweeper = containment.choose(self.paths.instance, name).containment
            except ContainmentError:
                continue
            while left := await asyncio.to_thread(sweeper.sweep, spare):
                killed.update((leftover.pid, leftover.command) for leftover in left)
                if time.monotonic() > deadline:
                    raise StartFailed(
                        f"cannot end what an earlier hermesd left: {len(left)} processes, "
                        f"first pid {left[0].pid} ({left[0].command})"
                    )
                await asyncio.sleep(0.01)
            break
        if killed:
            log.warning("ended %d processes that an earlier hermesd had left: %s", len(killed), killed)

    async def _make_platforms(self) -> None:
        """Import the client libraries while the keeper, a process of its own, imports what workers need."""
        self.platforms.make(self._wanted_platforms())

    async def _sweep_media(self) -> None:
        """Remove the files of messages after a day, every one of them."""
        while True:
            removed = await asyncio.to_thread(sweep, self.paths.media, time.time() - MEDIA_KEPT)
            if removed:
                log.info("removed %d files of messages that were older than a day", removed)
            await asyncio.sleep(MEDIA_SWEEP)

    async def _prune_daily(self) -> None:
        """Drop what nobody will ask for any more, in steps that hold the journal up for no one."""
        while True:
            self.watch.prune(time.time())
            with contextlib.suppress(JournalUnavailable):
                while await self.journal.write(retention.prune, time.time()):
                    await asyncio.sleep(0)
            await asyncio.sleep(DAY)

    def _platform_up(self, name: str) -> None:
        self.tasks.job(self.deliverer.platform_up(name), f"send what waited for {name}")
        if (shows := capability(self.platforms.live.get(name), HasMenu)) is not None:
            self.tasks.job(self._show_menu(name, shows), f"menu of {name}")

    async def _show_menu(self, name: str, shows: HasMenu) -> None:
        try:
            await shows.show_menu([MenuEntry(command.name, command.help, command.argument) for command in TABLE])
        except AdapterError as error:
            log.warning("%s does not show the menu of commands: %s", name, error)

    def _wanted_platforms(self) -> dict[str, AdapterSettings]:
        wanted = {LOCAL: AdapterSettings(LOCAL)}
        for name, platform in self.loaded.settings.platforms.items():
            if platform.enabled:
                extra = {"media_dir": str(self.paths.media), **platform.extra}
                wanted[name] = AdapterSettings(
                    name, True, platform.token, platform.api_key, extra, platform.reply_to_mode,
                    platform_environment(name, self.loaded.environ),
                )  # fmt: skip
        return wanted

    # ---- running -----------------------------------------------------------------------------------------------------

    def watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        # Blocked where this process was exec'd in place of an earlier hermesd; what came meanwhile comes now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)

    def _reload_soon(self) -> None:
        # What is starting takes the new settings when it is up; what is stopping needs none.
        self._reload_due = self.state == "starting"
        if self.state == "running":
            self.tasks.job(self.reloader.on_signal(), "reload")

    def _signalled(self, number: int) -> None:
        console = capability(self.platforms.live.get(LOCAL), HasConsole)
        first = number == signal.SIGINT and not self.stop_requested.is_set()
        if first and console is not None and console.interrupt():
            return
        if self.stop_requested.is_set():
            self._hurry.set()
        self.request_stop(f"signal {signal.Signals(number).name}")

    def request_stop(self, reason: str, timeout: float | None = None) -> None:
        """Ask for a stop; the second call changes nothing but a given ``timeout``."""
        if timeout is not None:
            self._stop_timeout = timeout
        if not self.stop_requested.is_set():
            log.info("stopping: %s", reason)
            self._begin_to_drain()
            self.stop_requested.set()
            self._arm_watchdog()

    def _begin_to_drain(self) -> None:
        if self.state != "draining":
            self.state, self.draining_since = "draining", time.time()

    def request_restart(self) -> None:
        """Ask for this process to be exec'd anew in place, on the workers that there are."""
        log.info("restarting in place")
        self.state = "restarting"
        self.restart_requested.set()

    def _arm_watchdog(self) -> None:
        """End this process when its time is over, whatever hangs: a C thread, which needs neither loop nor GIL.

        It writes every thread's stack to stderr first. The keeper sees the death and kills what is left.
        """
        late = 0.0 if self._stop_timeout is None else max(0.0, self._stop_timeout - self.budget.turns)
        faulthandler.dump_traceback_later(self.budget.watchdog + late, exit=True)

    def on_stop_progress(self, tell: Callable[[str, int, float], None]) -> None:
        """``tell(phase, busy turns, seconds left)`` is called about once a second while hermesd stops."""
        self._stop_progress.append(tell)

    async def run(self, *, console: bool = False) -> int:
        """Until a stop is asked for. Returns the exit status of the console, or 0. Raises what ended hermesd.

        `RESTART_IN_PLACE`: the caller has to exec this program anew; its workers have been left alone.
        """
        status = 0
        self.console = console
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self.stop_requested.wait()),
            asyncio.ensure_future(self.restart_requested.wait()),
        ]
        talking: asyncio.Future[int] | None = None
        local = capability(self.platforms.live.get(LOCAL), HasConsole)
        if console and local is not None:
            talking = asyncio.ensure_future(local.converse())
            waits.append(talking)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if talking is not None and talking.done():
            status = talking.result()
            self.request_stop("the console has ended")
        for wait in waits:
            if wait is not talking:
                wait.cancel()
        if not self.stop_requested.is_set() and self.restart_requested.is_set():
            await self.let_go()
            signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
            if self.stop_requested.is_set():
                signal.raise_signal(signal.SIGTERM)  # for the next image, which will handle it
            return RESTART_IN_PLACE
        await self.stop()
        if talking is not None and not talking.done():
            talking.cancel()
        if self._failure is not None:
            raise self._failure
        return status

    async def stop(self) -> StopReport:
        """Drain, end every worker, disconnect, close. Also after a start that failed half way."""
        began = time.monotonic()
        self._begin_to_drain()
        self.lanes.draining = True
        turns = self.budget.turns if self._stop_timeout is None else self._stop_timeout
        interrupted = await self._drain(turns)
        self._tell("stopping", len(self.pool.workers), self.lanes.settings.reap)
        politely = await self.lanes.stopping.stop_workers(self.lanes.settings.reap + 1.0) if self.pool.workers else True
        killed = len(self.pool.workers) if not politely else 0
        # Its last word goes out while the control socket is still there.
        self.stop_report = StopReport(interrupted, killed, time.monotonic() - began)
        await self.deliverer.wait_idle(2.0)
        self.stopped.set()
        await self.platforms.stop()
        await self.pool.close(self.budget.worker_grace)
        await self.control.close()
        await self.tasks.settle(LAST_WRITES_SECONDS)
        await self.tasks.close()
        await self.journal.close()
        pidfile.remove(self.paths.pid_file)
        self.paths.clear_sockets(remove=True)
        faulthandler.cancel_dump_traceback_later()
        log.info("stopped after %.1f s: %d turns interrupted, %d workers killed",
                 time.monotonic() - began, interrupted, killed)  # fmt: skip
        return self.stop_report

    async def give_up(self) -> None:
        """After a start that failed half way: end what is ours; what an earlier life left waits for another hermesd.

        Its keepers wait for as long as they have been told (``adopt_timeout``), from now on.
        """
        self._claims.close()
        if self.pool.launchers[1:] or self.lanes.adoption.adopted:
            await self.let_go()
        else:
            await self.stop()

    async def let_go(self) -> None:
        """End this life and leave the workers as they are: another hermesd takes them over."""
        self.lanes.draining = True
        await self.deliverer.wait_idle(2.0)
        await self.platforms.stop()
        await self.control.close()
        await self.tasks.settle(LAST_WRITES_SECONDS)
        await self.pool.let_go(self.budget.worker_grace)
        await self.tasks.close()
        await self.journal.close()
        faulthandler.cancel_dump_traceback_later()
        log.info("let go of %d workers", len(self.pool.workers))

    async def _drain(self, timeout: float) -> int:
        if not self.lanes.running:
            return 0
        deadline = time.monotonic() + timeout
        draining = asyncio.ensure_future(
            self.lanes.stopping.drain(timeout, lambda busy: self._tell("draining", busy, deadline - time.monotonic()))
        )
        hurrying = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if draining.done():
            return draining.result()
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
        return await self.lanes.stopping.drain(0.0, lambda busy: None)

    def _tell(self, phase: str, busy: int, left: float) -> None:
        for tell in self._stop_progress:
            tell(phase, busy, max(0.0, left))

    # ---- what may go wrong -------------------------------------------------------------------------------------------

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._fail(HermesdError(f"the task {name!r} failed: {type(error).__name__}: {error}"))

    def _escalate(self, crashes: int) -> None:
        self._fail(
            Escalation(
                f"{crashes} workers have crashed within a minute, so the fault is not one session's: hermesd ends with "
                f"status {Escalation.exit_status} and its service manager decides; what they died of: hermesctl logs"
            )
        )

    def _keeper_died(self, reason: str) -> None:
        # Without a keeper nobody can start workers, nor empty a container; the next start takes over or sweeps.
        failure = HermesdError(reason)
        failure.exit_status = Escalation.exit_status
        self._fail(failure)

    def _fail(self, failure: HermesdError) -> None:
        if self._failure is None:
            self._failure = failure
            log.critical("%s", failure)
            self.request_stop(str(failure))

    # ---- for the control API -----------------------------------------------------------------------------------------

    def contained(self, pid: int) -> bool:
        """Whether a process lies in one of our containers: an agent may look, but not approve itself."""
        roots = {launcher.pid for launcher in self.pool.launchers}
        roots |= {worker.pid for worker in self.pool.workers.values()}
        return is_contained(pid, roots, self.paths.instance)

    def attachable(self) -> CanAttach | None:
        return capability(self.platforms.live.get(LOCAL), CanAttach)


def write_worker_logs(worker: Worker, batch: Logs) -> None:
    """Write what a worker logged into hermesd's own log, with who said it."""
    where: dict[str, Any] = {"session": worker.session or "", "worker": worker.id}
    if batch.dropped:
        logs.write_worker_record(
            time.time(), logging.WARNING, "worker", f"{batch.dropped} log records did not fit", **where
        )
    for record in batch.records:
        # A name that it was not given would put its lines among another session's.
        turn = record.turn if record.turn in worker.given else ""
        logs.write_worker_record(
            record.at, record.level, record.logger, record.text, turn=turn, pid=record.pid, **where
        )
