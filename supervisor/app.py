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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import CanAttach, HasConsole, HasMenu, MenuEntry, capability
from hermesd.adapters.errors import AdapterError
from hermesd.workers.containment.errors import ContainmentError

from . import hermes_home, housekeeping, in_effect, logs, worker_records, worker_template
from .config.budget import StopBudget, derive
from .config.loader import Loaded
from .control.handlers import ControlHandlers
from .control.server import ControlServer
from .delivery.deliverer import Deliverer
from .errors import Escalation, HermesdError
from .gateway.commands.registry import Commands
from .gateway.commands.table import TABLE
from .gateway.lanes import Lanes
from .gateway.reception import Reception
from .gateway.stickers import Stickers
from .instance import pidfile
from .instance.keepers import Keepers
from .instance.paths import Paths
from .journal import Journal, pauses, workers
from .lag import LoopLag
from .mcp.holders import Holders
from .mcp.memory import Memory
from .mcp.servers import McpServers
from .oauth.broker import Broker
from .platforms import Platforms
from .pool.census import is_contained
from .pool.curve import Keys
from .pool.fresh_start import end_leftovers
from .pool.launchers.adopted import AdoptedKeeper
from .pool.launchers.claiming import Claims
from .pool.launchers.contract import LauncherListener
from .pool.launchers.keeper import KeeperLauncher
from .pool.pool import Pool
from .pool.takeover import Takeover, survey
from .pool.usage import Sampler
from .pool.watch import Watch
from .reloading import Reloader
from .surroundings import missing_commands
from .tasks import Tasks

log = logging.getLogger("hermesd.app")

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that hermesd handles."""

LAST_WRITES_SECONDS = 2.0
"""For the ends of turns, when everything else has stopped."""

RESTART_IN_PLACE = -1
"""No exit status: the process goes on as another image."""


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
        self.platforms = Platforms(
            self.tasks, environ=loaded.environ, home=paths.home, on_up=self._platform_up,
            on_gone=lambda name: self.deliverer.platform_gone(name),
        )  # fmt: skip
        settings = in_effect.delivery_settings(loaded, paths)
        self.deliverer = Deliverer(
            self.journal, self.platforms.live, self.tasks, settings, on_missing=self.platforms.hurry,
            may_return=self.platforms.may_return, on_denied=self.platforms.denied,
        )  # fmt: skip
        self.stickers = Stickers(paths.home / "sticker_cache.json")
        self.tokens = Broker(paths.home, lambda: self.loaded.settings.mcp_servers, self.tasks)
        self.holders = Holders(
            lambda: self.pool, lambda: self.lanes.settings.stop_grace, lambda server: self.mcp.standing(server)
        )
        self.lanes = self._make_lanes()
        self.memory = Memory(paths.mcp, self.tasks)
        self.mcp = McpServers(self.memory, lambda worker, message: self.pool.send(worker, message))
        self.pool = self._make_pool()
        self.lanes.use(self.pool, self.holders)
        self.watch = self._make_watch()
        self.reception = self._make_reception()
        self.reloader = Reloader(self, reread)
        self._reload_due = False
        self.sampler = Sampler(self.pool, self.lanes.recycling.enforcer.of_idle)
        self.lag = LoopLag()
        self.control = ControlServer(paths.control_socket, ControlHandlers(self), self.contained)

    # ---- building ----------------------------------------------------------------------------------------------------

    def _make_lanes(self) -> Lanes:
        return Lanes(
            settings=in_effect.lane_settings(self.loaded, self.paths, self.budget),
            journal=self.journal,
            deliverer=self.deliverer,
            tasks=self.tasks,
            stickers=self.stickers,
            on_escalation=self._escalate,
            on_logs=worker_records.write,
        )

    def _make_launcher(self, listener: LauncherListener) -> KeeperLauncher:
        ours = self.loaded.settings.hermesd
        template = in_effect.worker_spec(self.loaded, self.paths, self.budget)
        return KeeperLauncher(
            listener,
            instance=self.paths.instance,
            run_dir=self.paths.sockets,
            log_file=self.paths.logs / "keeper.log",
            environment=template.environment,
            containment=ours.containment,
            agent=ours.agent,
            agent_path=ours.agent_path,
            preload=worker_template.preload(template.servers),
            adopt_timeout=ours.adopt_timeout_seconds,
            keepers=self._keepers,
            lock=self.paths.lock,
            start_by=ours.workers.start_by,
            python=ours.python,
        )

    def _make_pool(self) -> Pool:
        ours = self.loaded.settings.hermesd
        template = in_effect.worker_spec(self.loaded, self.paths, self.budget)
        self.mcp.configure(template.servers)
        self.holders.configure(template.servers)
        return Pool(
            self.lanes,
            make_launcher=self._make_launcher,
            endpoint=ours.workers.endpoint or f"ipc://{self.paths.worker_socket}",
            template=template,
            spare=ours.workers.spare,
            stacks_dir=self.paths.logs / "stacks",
            servers=self.mcp,
            on_launcher_death=self._keeper_died,
            keys=Keys(self.paths.run / "curve") if ours.workers.endpoint else None,
            on_token_wanted=self.tokens.wanted,
            holders=self.holders,
        )

    def _make_watch(self) -> Watch:
        workers = self.loaded.settings.hermesd.workers
        return Watch(
            self.pool,
            hang_timeout=workers.hang_timeout_seconds,
            burn_timeout=workers.burn_timeout_seconds,
            directory=self.paths.logs / "hangs",
            tasks=self.tasks,
            has_turn=lambda worker: self.lanes.recycling.has_turn(worker) or self.holders.under_way(worker) > 0,
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
            rules=in_effect.reception_rules(self.loaded),
            stickers=self.stickers,
            media=self.paths.media,
            on_lost=self.platforms.lost,
        )

    # ---- starting ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything is up when this returns. Raises `HermesdError`, or what the part that failed raised."""
        if self.loaded.settings.hermesd.agent == hermes_home.AGENT:
            hermes_home.write(self.loaded, self.paths.home, self.paths.hermes_view)
        await self.journal.open()
        await self.deliverer.recover()
        found = survey(await self.journal.read(workers.left), self._claims, self.paths.instance)
        await end_leftovers(self.paths.instance, found.spare)
        self.paths.clear_sockets(spare=[Path(claimed.record.socket) for claimed in found.keepers])
        await self._take_over(found)
        await asyncio.gather(self.pool.start(), self._make_platforms())
        await self.platforms.start(self.reception, await self.journal.read(pauses.paused))
        await self.deliverer.take_up()
        await self.reception.resume()
        await self.control.open()
        self.tasks.spawn(self.sampler.run(), "usage sampler")
        self.tasks.spawn(housekeeping.prune_daily(self.journal, self.watch), "retention")
        self.tasks.spawn(self.lag.run(), "loop lag")
        self.tasks.spawn(logs.tend(self.paths.logs), "log files")
        self.tasks.spawn(self.watch.run(), "worker watch")
        self.tasks.spawn(self.lanes.recycling.enforcer.run(), "limits")
        self.tasks.spawn(self.lanes.presence.run(), "typing")
        self.tasks.spawn(housekeeping.sweep_media(self.paths.media), "media sweep")
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

    async def _make_platforms(self) -> None:
        """Import the client libraries while the keeper, a process of its own, imports what workers need."""
        self.platforms.make(in_effect.wanted_platforms(self.loaded, self.paths))

    def _platform_up(self, name: str) -> None:
        self.tasks.job(self.deliverer.platform_up(name), f"send what waited for {name}")
        if (shows := capability(self.platforms.live.get(name), HasMenu)) is not None:
            self.tasks.job(self._show_menu(name, shows), f"menu of {name}")

    async def _show_menu(self, name: str, shows: HasMenu) -> None:
        try:
            await shows.show_menu([MenuEntry(command.name, command.help, command.argument) for command in TABLE])
        except AdapterError as error:
            log.warning("%s does not show the menu of commands: %s", name, error)

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
        console = capability(self.platforms.live.get(in_effect.LOCAL), HasConsole)
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
        local = capability(self.platforms.live.get(in_effect.LOCAL), HasConsole)
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
        self.memory.flush()
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
        self.memory.flush()
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
        return capability(self.platforms.live.get(in_effect.LOCAL), CanAttach)
