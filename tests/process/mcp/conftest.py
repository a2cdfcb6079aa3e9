"""A process that stands for a worker: it has a container, and MCP servers in containers below it."""

import asyncio
import os
import select
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from harness.lacking import lacking

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers import containment
from hermesd.workers.containment import prctl, tag
from hermesd.workers.mcp.servers import Servers

HOSTILE = Path(__file__).parents[1] / "servers" / "hostile.py"
WORKER = "w1"
PATIENCE = 40.0  # for a server that starts beside the other tests


class Oracle:
    """Every process of a hostile server connects here; the end of its connection proves its death."""

    def __init__(self, path):
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(200)
        self._listener.setblocking(False)
        self._connections = []

    def alive(self):
        """How many are connected and have not ended."""
        while True:
            try:
                self._connections.append(self._listener.accept()[0])
            except BlockingIOError:
                break
        alive = []
        for connection in self._connections:
            poller = select.poll()
            poller.register(connection, select.POLLRDHUP | select.POLLHUP)
            if poller.poll(0):
                connection.close()
            else:
                alive.append(connection)
        self._connections = alive
        return len(alive)

    async def wait_alive(self, count, seconds=30.0):
        async with asyncio.timeout(seconds):
            while self.alive() != count:
                await asyncio.sleep(0.005)

    def close(self):
        for connection in self._connections:
            connection.close()
        self._listener.close()


class Pen:
    """Makes `Servers` as a worker has them."""

    def __init__(self, containment, tag, log_dir, oracle):
        self.containment = containment
        self.tag = tag
        self.log_dir = log_dir
        self.oracle = oracle
        self.reports = []
        self.all = []

    def servers(self, *specs, grace=2.0, base_env=None, warden=None):
        made = Servers(
            specs,
            containment=self.containment,
            worker=WORKER,
            tag=self.tag,
            log_dir=self.log_dir,
            base_env=os.environ if base_env is None else base_env,
            grace=grace,
            warden=warden,
            on_change=self.reports.append,
        )
        self.all.append(made)
        return made

    def hostile(self, habit, name="h", **more):
        env = {"CONNECT_BACK": self.oracle.path, **more.pop("env", {})}
        options = {"connect_timeout": PATIENCE, "timeout": PATIENCE, "tools_wait": PATIENCE, **more}
        return ServerSpec(name, sys.executable, ("-S", str(HOSTILE), habit), env, **options)

    def states(self, name="h"):
        """Each (state, generation) that was reported of one server, without repetitions."""
        seen = []
        for reports in self.reports:
            for report in reports:
                now = (str(report.state), report.generation)
                if report.name == name and (not seen or seen[-1] != now):
                    seen.append(now)
        return seen

    def members(self):
        return self.containment.worker(WORKER, self.tag).members()

    def tagged(self):
        """Pids of live processes whose environment carries this worker's tag, read without our own code for it."""
        mark = b"HERMESD_TAG=" + self.tag[: 12 + 1 + 16].encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue  # it has ended, or it is another user's
        return found


@pytest.fixture(params=["cgroup", "subreaper"])
def pen(request, home):
    instance = home.instance
    try:
        chosen = containment.choose(instance, request.param).containment
    except containment.ContainmentError as reason:
        lacking(str(reason))
    if request.param == "cgroup":
        chosen.prepare()
    else:
        prctl.set_child_subreaper()
    mark = tag.make_tag(instance)
    worker = chosen.worker(WORKER, mark)
    worker.create()
    (home / "logs").mkdir()
    oracle = Oracle(home / "oracle")
    try:
        yield Pen(chosen, mark, home / "logs", oracle)
    finally:
        deadline = time.monotonic() + 30
        while not worker.kill_round() and time.monotonic() < deadline:
            time.sleep(0.005)
        if request.param == "cgroup":
            chosen.leave()
        prctl.set_child_subreaper(False)
        for child in psutil.Process().children():
            if child.status() == psutil.STATUS_ZOMBIE:  # an orphan of a server; the keeper's work
                os.waitpid(child.pid, 0)
        oracle.close()


@pytest.fixture
async def stopping(pen):
    """Stops what a failed test left, so that the next one finds nothing."""
    yield
    for servers in pen.all:
        await servers.stop(0.0)  # no patience: they are killed
        await servers.stop(2.0)
