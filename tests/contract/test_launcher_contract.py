"""The launcher's contract, over the real keeper: by fork and by exec, in cgroups and below a subreaper."""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from harness.unasked import Unasked

from hermesd.ipc.codec import Codec
from hermesd.ipc.framing import frame
from hermesd.ipc.keeping import Claim, Fork, Forked, ForkFailed, Gone
from hermesd.ipc.messages import UP, Assign, Finished, Hello, Logs, Message, Snapshot, StartTurn
from hermesd.ipc.sockets import Dealer
from hermesd.supervisor.errors import StartFailed
from hermesd.supervisor.instance.keepers import Keepers
from hermesd.supervisor.instance.keepers import read as read_keepers
from hermesd.supervisor.pool.launchers.contract import Launcher, LauncherListener
from hermesd.supervisor.pool.launchers.keeper import KeeperLauncher
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.workers import containment
from hermesd.workers.spec import WorkerSpec

SECRETS = {"TELEGRAM_BOT_TOKEN": "123:canary-token", "HERMESD_API_KEY": "canary-key", "DATABASE_URL": "canary-url"}
PATIENCE = 40.0


def possible(name: str, instance: str) -> bool:
    try:
        containment.choose(instance, name)
    except containment.ContainmentError:
        return False
    return True


class Gateway:
    """The pool's listener: keeps what it is told."""

    def __init__(self) -> None:
        self.ready: list[Worker] = []
        self.said: list[Message] = []
        self.ends: list[tuple[str, Gone]] = []
        self.logs: list[str] = []

    def worker_ready(self, worker: Worker, error: str) -> None:
        assert not error
        self.ready.append(worker)

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        self.said.append(message)
        settle()

    def worker_forked(self, worker: Worker) -> None:
        pass

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None:
        pass

    def worker_has(self, worker: Worker, message: Message) -> None:
        pass

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        self.ends.append((worker.id, gone))

    def worker_logs(self, worker: Worker, logs: Logs) -> None:
        self.logs += [record.text for record in logs.records]


class Scene:
    """A pool with its keeper, in a home of its own."""

    def __init__(self, path: Path, name: str, start_by: str):
        self.path = path
        self.instance = secrets.token_hex(6)
        self.containment = name
        self.start_by = start_by
        self.gateway = Gateway()
        self.deaths: list[str] = []
        self.forked: list[Forked] = []
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(path)}

    async def start(
        self, *, spare: int = 0, agent: str = "demo", preload: tuple[str, ...] = (), adopt_timeout: float = 0.0
    ) -> Scene:
        agent_path = (str(self.path),)
        template = WorkerSpec(
            worker="", instance=self.instance, tag="", endpoint="", token="", containment="", container="",
            agent=agent, agent_path=agent_path, environment=self.environment, log_dir=str(self.path), heartbeat=0.2,
            adopt_timeout=adopt_timeout,
        )  # fmt: skip

        def make(listener: LauncherListener) -> KeeperLauncher:
            self.launcher = KeeperLauncher(
                listener,
                instance=self.instance,
                run_dir=self.path,
                log_file=self.path / "keeper.log",
                environment=self.environment,
                containment=self.containment,
                agent=agent,
                agent_path=agent_path,
                preload=preload,
                adopt_timeout=adopt_timeout,
                keepers=Keepers(self.path / "keepers.json"),
                start_by=self.start_by,
            )
            return self.launcher

        self.pool = Pool(
            self.gateway,
            make_launcher=make,
            endpoint=f"ipc://{self.path}/workers.sock",
            template=template,
            spare=spare,
            stacks_dir=self.path / "stacks",
            servers=Unasked(),
            on_launcher_death=self.deaths.append,
        )
        await self.pool.start()
        return self

    def take(self, key: str = "s1") -> Worker:
        return self.pool.take(Assign(key, "id1", "fake", "c1", "u1", "Ann", workdir=str(self.path / "work" / key)))

    async def ready(self, key: str = "s1") -> Worker:
        worker = self.take(key)
        await self.until(lambda: worker in self.gateway.ready)
        return worker

    async def until(self, reached: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, (self.path / "keeper.log").read_text()
            await asyncio.sleep(0.005)

    async def end_of(self, worker: Worker) -> Gone:
        await self.until(lambda: any(name == worker.id for name, _ in self.gateway.ends))
        return next(gone for name, gone in self.gateway.ends if name == worker.id)

    def left(self) -> list[str]:
        """What of this instance is still there."""
        found = []
        mark = f"HERMESD_TAG={self.instance}-".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().decode())
            except OSError:
                continue
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if " - cgroup2 " in line:
                # Not rglob: it fails where a cgroup goes away meanwhile.
                for top, directories, _ in os.walk(line.split()[4]):
                    found += [f"{top}/{name}" for name in directories if name == f"hermesd-{self.instance}"]
        return found


def descriptors_of(pid: int) -> set[str]:
    """What they lead to. One that was closed during the look is none."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return found


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(params=["cgroup", "subreaper"])
def containment_name(request: pytest.FixtureRequest, lacking: Callable[[str], NoReturn]) -> str:
    if not possible(request.param, secrets.token_hex(6)):
        lacking(f"this system gives no {request.param}")
    return str(request.param)


@pytest.fixture(params=["fork", "exec"])
def start_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def scene(tmp_path: Path, containment_name: str, start_by: str, monkeypatch: Any) -> AsyncIterator[Scene]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    made = Scene(tmp_path, containment_name, start_by)
    yield made
    if hasattr(made, "pool"):
        await made.pool.close(10.0)
    deadline = time.monotonic() + PATIENCE
    while made.left() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert made.left() == []
    assert not list(tmp_path.glob("*.sock"))


async def test_a_worker_comes_answers_and_is_killed_with_a_full_account(scene: Scene) -> None:
    await scene.start()
    assert scene.launcher.containment == scene.containment
    assert scene.launcher.forks is (scene.start_by == "fork")
    worker = await scene.ready()
    assert psutil.Process(worker.pid).ppid() == scene.launcher.pid
    scene.pool.send(worker, StartTurn("t1", "hello", "u1"))
    await scene.until(lambda: any(isinstance(message, Finished) for message in scene.gateway.said))
    scene.pool.kill(worker)
    gone = await scene.end_of(worker)
    assert gone.exit_code == -signal.SIGKILL
    assert 0 < gone.cpu_seconds < 10
    assert gone.max_rss > 1_000_000
    assert gone.left_over == 0
    assert gone.took < PATIENCE
    assert not scene.pool.workers


async def test_what_a_worker_leaves_is_killed_and_counted(scene: Scene) -> None:
    (scene.path / "leaver.py").write_text(
        "import os, subprocess\n"
        "class A:\n"
        "    def __init__(self, session): pass\n"
        "    def turn(self, turn, out):\n"
        "        for _ in range(3):\n"
        "            subprocess.Popen(['setsid', 'sleep', '300'])\n"
        "        os._exit(3)\n"
        "def make(session): return A(session)\n"
    )
    await scene.start(agent="leaver:make")
    worker = await scene.ready()
    scene.pool.send(worker, StartTurn("t1", "x", "u1"))
    gone = await scene.end_of(worker)
    assert gone.exit_code == 3
    assert gone.left_over == 3


async def test_a_polite_stop_ends_with_status_0(scene: Scene) -> None:
    await scene.start()
    worker = await scene.ready()
    scene.pool.stop_worker(worker, "enough", PATIENCE)
    assert (await scene.end_of(worker)).exit_code == 0


async def test_a_spare_becomes_the_next_session_and_is_replaced(scene: Scene) -> None:
    await scene.start(spare=1)
    await scene.until(lambda: [worker.connected for worker in scene.pool.workers.values()] == [True])
    (spare,) = scene.pool.workers.values()
    worker = await scene.ready()
    assert worker is spare
    await scene.until(lambda: [each.connected for each in scene.pool.workers.values()] == [True, True])
    (worn,) = [each for each in scene.pool.workers.values() if each is not worker]
    scene.pool.replace_spare(worn)
    scene.pool.replace_spare(worker)  # it has a session by now
    await scene.until(lambda: worn.id not in scene.pool.workers)
    await scene.until(lambda: [each.connected for each in scene.pool.workers.values()] == [True, True])
    assert worker.id in scene.pool.workers
    scene.pool.stop_spares(0.5)
    await scene.until(lambda: list(scene.pool.workers.values()) == [worker])


async def test_workers_hold_no_secret_and_their_own_tag(scene: Scene) -> None:
    await scene.start()
    first, second = await scene.ready("s1"), await scene.ready("s2")
    for pid in (scene.launcher.pid, first.pid, second.pid):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"canary" not in environ
        assert b"canary" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    tags = [Path(f"/proc/{worker.pid}/environ").read_bytes().count(f"HERMESD_TAG={worker.tag}".encode())
            for worker in (first, second)]  # fmt: skip
    assert tags == [1, 1]
    assert first.tag != second.tag


async def test_a_worker_has_the_named_descriptors_only(scene: Scene) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        await scene.start()
    finally:
        os.close(write)
    first, second = await scene.ready("s1"), await scene.ready("s2")
    # A descriptor of ours that was inheritable by mistake may reach the keeper, and must not reach a forked worker.
    held = [descriptors_of(worker.pid) for worker in (first, second)]
    ours = os.readlink(f"/proc/self/fd/{read}")
    os.close(read)
    if scene.start_by == "fork":
        assert not any(ours in each for each in held)
    allowed = ("pipe:", "socket:", "anon_inode:", "/dev/null", "/dev/urandom", "/proc/", str(scene.path / "stacks"))
    for each in held:
        assert all(target.startswith(allowed) for target in each), each
    sockets = [{target for target in each if target.startswith("socket:")} for each in held]
    keeper = descriptors_of(scene.launcher.pid)
    assert not sockets[0] & sockets[1]
    assert not any(each & {target for target in keeper if target.startswith("socket:")} for each in sockets)


async def test_a_stranger_at_the_keepers_socket_changes_nothing(scene: Scene) -> None:
    await scene.start()
    worker = await scene.ready()
    (path,) = scene.path.glob("keeper-*.sock")
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as liar:
        silent.connect(str(path))
        liar.connect(str(path))
        liar.settimeout(PATIENCE)
        liar.sendall(frame(Codec(Claim).encode(Claim("0" * 32))))
        assert liar.recv(1) == b""
        other = await scene.ready("s2")
        assert psutil.pid_exists(worker.pid)
        assert psutil.pid_exists(other.pid)
    assert not scene.deaths


async def test_who_comes_under_a_workers_name_is_nobody(scene: Scene) -> None:
    await scene.start()
    worker = await scene.ready()
    dealer = Dealer(f"ipc://{scene.path}/workers.sock", worker.id.encode())
    try:
        assert dealer.wait_connected(PATIENCE)
        assert dealer.send(Codec(*UP).encode(Hello(worker.id, "0" * 32, 1, 1, "x")))
        await scene.until(lambda: scene.pool.counts().foreign_frames == 1)
    finally:
        dealer.close()
    scene.pool.kill(worker)
    assert (await scene.end_of(worker)).exit_code == -9


async def test_another_keeper_takes_the_place_of_one_that_was_killed_and_its_workers_with_it(scene: Scene) -> None:
    await scene.start(adopt_timeout=PATIENCE)
    worker = await scene.ready()
    process, killed = psutil.Process(worker.pid), scene.launcher.pid
    psutil.Process(killed).kill()
    await scene.until(lambda: scene.pool.launcher.state != "running")
    late = await scene.ready("s2")  # asked for while there is no keeper
    assert scene.pool.launcher.pid != killed
    assert psutil.Process(late.pid).ppid() == scene.pool.launcher.pid
    scene.pool.send(worker, StartTurn("t1", "hello", "u1"))
    await scene.until(lambda: any(isinstance(message, Finished) for message in scene.gateway.said))
    assert process.is_running()
    assert worker.launcher is scene.pool.launcher
    scene.pool.kill(worker)
    gone = await scene.end_of(worker)
    # It was not this keeper's child: only newer kernels tell others than the parent.
    assert gone.exit_code in (None, -signal.SIGKILL)
    assert not scene.deaths
    records = read_keepers(scene.path / "keepers.json")
    assert [record.pid for record in records] == [scene.pool.launcher.pid]


async def test_without_time_to_wait_workers_end_with_their_keeper_and_others_can_be_started(scene: Scene) -> None:
    await scene.start()
    worker = await scene.ready()
    psutil.Process(scene.launcher.pid).kill()
    await scene.end_of(worker)
    await scene.until(lambda: scene.pool.launcher.state != "gone")
    await scene.ready("s2")
    assert not scene.deaths


class TestKeeperOnly:
    """What does not differ between the containments."""

    @pytest.fixture
    def containment_name(self) -> str:
        return "subreaper"

    async def test_nonsense_is_a_failed_fork_and_leaves_nothing(self, scene: Scene) -> None:
        await scene.start()
        listener = _Listener()
        scene.launcher._listener = listener  # a request that the pool would never make
        scene.launcher._send(Fork("w9", "no tag"))
        await scene.until(lambda: listener.failed)
        assert listener.failed[0].worker == "w9"
        assert "no descriptor" in listener.failed[0].reason
        scene.launcher._listener = scene.pool

    async def test_a_preloaded_module_that_starts_a_thread_makes_the_keeper_exec(self, scene: Scene) -> None:
        (scene.path / "threader.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
        )
        scene.environment["PYTHONPATH"] = str(scene.path)
        await scene.start(preload=("threader",))
        assert scene.launcher.forks is False
        await scene.ready()

    async def test_an_agent_that_starts_a_thread_is_left_out_with_a_warning(self, scene: Scene) -> None:
        (scene.path / "threader.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
            "class A:\n    async def turn(self, turn, out): return 'x'\ndef make(session): return A()\n"
        )
        await scene.start(agent="threader:make")
        assert scene.launcher.forks is (scene.start_by == "fork")
        assert scene.launcher.warnings == ("threader left out of the preload: it starts a thread when imported",)
        await scene.ready()

    async def test_a_keeper_that_cannot_start_says_where_to_look(self, scene: Scene) -> None:
        scene.environment["PYTHONHOME"] = "/nowhere"
        with pytest.raises(StartFailed, match=r"the keeper ended with status 1; see .*keeper\.log"):
            await scene.start()
        await scene.launcher.stop(1.0)

    async def test_a_keeper_that_dies_before_it_is_told_anything(self, scene: Scene, monkeypatch: Any) -> None:
        scene.environment["PYTHONHOME"] = "/nowhere"
        real = os.pidfd_open

        def late(pid: int, flags: int = 0) -> int:
            pidfd = real(pid, flags)
            select.select([pidfd], [], [], PATIENCE)
            return pidfd

        monkeypatch.setattr(os, "pidfd_open", late)
        with pytest.raises(StartFailed, match=r"the keeper ended with status 1"):
            await scene.start()
        await scene.launcher.stop(1.0)


class _Listener:
    def __init__(self) -> None:
        self.failed: list[ForkFailed] = []

    def forked(self, message: Forked) -> None:
        raise AssertionError(message)

    def fork_failed(self, message: ForkFailed) -> None:
        self.failed.append(message)

    def gone(self, message: Gone) -> None:
        raise AssertionError(message)

    def launcher_died(self, launcher: Launcher, reason: str) -> None:
        raise AssertionError(reason)


OWNER = """
import asyncio, os, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_launcher_contract import Scene

async def main():
    scene = Scene(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    await scene.start(spare=1)
    worker = await scene.ready()
    print(scene.instance, scene.launcher.pid, worker.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_kill_9_of_the_owner_leaves_nothing(tmp_path: Path, containment_name: str, start_by: str) -> None:
    owner = subprocess.Popen(  # noqa: ASYNC220 - the fork takes a millisecond
        [sys.executable, "-c", OWNER, str(Path(__file__).parent), str(tmp_path), containment_name, start_by],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    with owner.stdout:
        instance, *pids = (await asyncio.to_thread(owner.stdout.readline)).split()
    processes = [psutil.Process(int(pid)) for pid in pids]
    owner.kill()
    owner.wait()
    scene = Scene(tmp_path, containment_name, start_by)
    scene.instance = instance
    await scene.until(lambda: not scene.left())
    # One that is in the middle of its exit has no environment any more, and is not over yet.
    await scene.until(lambda: not any(map(runs, processes)))
