"""A pool with real workers and its MCP part, without a gateway: turns are told by their names."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import Assign, Finished, Logs, Message, Snapshot, StartTurn
from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.instance.keepers import Keepers
from hermesd.supervisor.mcp.holders import Holders
from hermesd.supervisor.mcp.memory import Memory
from hermesd.supervisor.mcp.servers import McpServers
from hermesd.supervisor.oauth.broker import Broker
from hermesd.supervisor.pool.launchers.contract import LauncherListener
from hermesd.supervisor.pool.launchers.keeper import KeeperLauncher
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks
from hermesd.supervisor.worker_template import preload
from hermesd.supervisor.worker_template import servers as specs_of
from hermesd.workers.spec import WorkerSpec

PATIENCE = 60.0


class Scene:
    """``servers``: as the configuration has them; ``python``: the interpreter of keeper and workers, "" = this one.

    ``agent``: `demo`, or one of which the module lies in ``path``.
    """

    def __init__(self, path: Path, servers: Mapping[str, McpServer], *, python: str = "", agent: str = "demo") -> None:
        self.path = path
        self.python = python
        self.agent = agent
        self.servers = servers
        self.ends: dict[str, Finished] = {}
        self.news = asyncio.Event()
        self.tasks = Tasks(lambda name, error: None)
        self.count = 0

    async def start(self) -> Scene:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path)}
        servers = specs_of(self.servers)
        self.template = template = WorkerSpec(
            worker="", instance=secrets.token_hex(6), tag="", endpoint="", token="", containment="", container="",
            agent=self.agent, environment=environment, log_dir=str(self.path), servers=servers, stop_grace=0.5,
            agent_path=(str(self.path),),
        )  # fmt: skip

        def make(listener: LauncherListener) -> KeeperLauncher:
            return KeeperLauncher(
                listener, instance=template.instance, run_dir=self.path, log_file=self.path / "keeper.log",
                environment=environment, containment="subreaper", agent=self.agent, agent_path=template.agent_path,
                preload=preload(servers), adopt_timeout=0.0,
                keepers=Keepers(self.path / "keepers.json"), python=self.python,
            )  # fmt: skip

        self.mcp = McpServers(Memory(self.path / "mcp.json", self.tasks), lambda w, m: self.pool.send(w, m))
        self.mcp.configure(servers)
        self.tokens = Broker(self.path, lambda: self.servers, self.tasks)
        self.holders = Holders(lambda: self.pool, lambda: 0.5, self.mcp.standing)
        self.holders.configure(servers)
        self.pool = Pool(
            self, make_launcher=make, endpoint=f"ipc://{self.path}/workers.sock", template=template, spare=0,
            stacks_dir=self.path / "stacks", servers=self.mcp, on_launcher_death=lambda reason: None,
            holders=self.holders, on_token_wanted=self.tokens.wanted,
        )  # fmt: skip
        await self.pool.start()
        return self

    def reload(self, servers: Mapping[str, McpServer]) -> None:
        """As `hermesd.supervisor.reloading` does it."""
        specs = specs_of(servers)
        self.servers, self.template = servers, replace(self.template, servers=specs)
        self.mcp.configure(specs)
        self.pool.reconfigure(self.template, 0)
        self.holders.configure(specs)

    async def close(self) -> None:
        await self.pool.close(PATIENCE)
        await self.tasks.close()

    # ---- the gateway's place -----------------------------------------------------------------------------------------

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        settle() if message.DURABLE else None
        if isinstance(message, Finished):
            self.ends[message.turn] = message
            self.news.set()

    def worker_ready(self, worker: Worker, error: str) -> None: ...

    def worker_has(self, worker: Worker, message: Message) -> None: ...

    def worker_forked(self, worker: Worker) -> None: ...

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None: ...

    def worker_gone(self, worker: Worker, gone: Gone) -> None: ...

    def worker_logs(self, worker: Worker, logs: Logs) -> None: ...

    # ---- what a test does --------------------------------------------------------------------------------------------

    async def session(self, name: str) -> Worker:
        workdir = str(self.path / "work" / name)
        worker = self.pool.take(Assign(f"s:{name}", name, "fake", "c", "u", "Ann", workdir=workdir))
        await self.until(lambda: worker.ready)
        return worker

    def begin(self, worker: Worker, tool: str, **arguments: Any) -> asyncio.Task[str]:
        """``tool`` as ``server.tool``; the task gives what the agent says of it."""
        return self.say(worker, f"!call {tool} {json.dumps(arguments)}")

    def say(self, worker: Worker, text: str) -> asyncio.Task[str]:
        """The task gives the agent's answer."""
        self.count += 1
        turn = f"t{self.count}"
        self.pool.send(worker, StartTurn(turn, text, "u"))
        return asyncio.create_task(self._end_of(turn))

    async def call(self, worker: Worker, tool: str, **arguments: Any) -> str:
        return await self.begin(worker, tool, **arguments)

    async def _end_of(self, turn: str) -> str:
        await self.until(lambda: turn in self.ends)
        return self.ends[turn].text or self.ends[turn].error

    async def until(self, reached: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, (self.path / "keeper.log").read_text()
            await asyncio.sleep(0.01)

    def holder(self) -> Worker:
        (found,) = [worker for worker in self.pool.workers.values() if worker.serves]
        return found

    def server_pids(self) -> dict[str, int]:
        """Of every worker that has the server's process: by worker."""
        return {w.id: report.pid for w in self.pool.workers.values() for report in w.servers if report.pid}
