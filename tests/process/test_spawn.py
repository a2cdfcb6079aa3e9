"""The exec shim, seen from both sides: what a program gets, and what its parent hears when there is none."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermesd.workers.containment import Entry
from hermesd.workers.containment.identity import identify
from hermesd.workers.containment.tag import VARIABLE, make_tag, read_tag
from hermesd.workers.spawn import SpawnError, spawn, spawn_async

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
LOOK = """
import json, os, resource, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
open("/proc/self/environ", "rb")
print(json.dumps({
    "environ": open("/proc/self/environ").read().split("\\0")[:-1],
    "blocked": int(status["SigBlk"], 16),
    "directory": os.getcwd(),
    "session": os.getsid(0) == os.getpid(),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
}))
"""


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    gc.disable()  # what other tests have left in cycles may hold descriptors, and would close them in between
    try:
        before = os.listdir("/proc/self/fd")
        yield
        assert len(os.listdir("/proc/self/fd")) == len(before)
    finally:
        gc.enable()


def look(**options) -> dict:
    """What a program sees of itself. It is a Python, so its own handling of signals is not looked at."""
    spawned = spawn([sys.executable, "-I", "-S", "-c", LOOK], **options)
    with open(spawned.stdout_fd, "rb", closefd=False) as output:
        seen = json.loads(output.read())
    assert spawned.wait(60) == 0
    spawned.close()
    return seen


def test_the_environment_is_exactly_the_given_one() -> None:
    assert look(env={"A": "b", "C": ""})["environ"] == ["A=b", "C="]


def test_the_tag_of_the_container_is_added() -> None:
    tag = make_tag("0123456789ab")
    assert look(env={"A": "b"}, entry=Entry(tag=tag))["environ"] == ["A=b", f"{VARIABLE}={tag}"]


def test_no_descriptor_but_the_three_is_inherited() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        assert look(env={})["descriptors"] == [0, 1, 2]
    finally:
        os.close(reader)
        os.close(writer)


def test_directory_session_limits_and_mask_are_as_asked(tmp_path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        seen = look(env={}, cwd=str(tmp_path), rlimits={"nofile": (64, 128)})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert seen["directory"] == os.path.realpath(tmp_path)
    assert seen["session"] is True
    assert seen["files"] == [64, 128]
    assert seen["blocked"] == 0
    assert look(env={}, entry=Entry(new_session=False))["session"] is False


def test_a_limit_above_the_present_one_is_lowered_to_it() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert look(env={}, rlimits={"nofile": hard + 1 if hard > 0 else 1024})["files"] == [hard, hard]


def test_signals_that_python_ignores_are_back_at_their_default() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        spawned = spawn(["grep", "SigIgn", "/proc/self/status"], env={"PATH": SYSTEM_PATH})
    finally:
        signal.signal(signal.SIGHUP, previous)
    with open(spawned.stdout_fd, closefd=False) as output:
        assert int(output.read().split()[1], 16) == 0
    assert spawned.wait(60) == 0
    spawned.close()


def test_the_pipes_carry_bytes_both_ways() -> None:
    spawned = spawn(["cat"], env={"PATH": SYSTEM_PATH})
    assert identify(spawned.pid) == (spawned.pid, spawned.start_ticks)
    stdin, stdout = spawned.take_pipes()
    os.write(stdin, b"over and back")
    assert os.read(stdout, 100) == b"over and back"
    os.close(stdin)
    assert spawned.wait(60) == 0
    os.close(stdout)
    spawned.close()


def test_stderr_goes_to_the_given_descriptor(tmp_path) -> None:
    with open(tmp_path / "log", "w+b") as log:
        spawned = spawn(["sh", "-c", "echo oops >&2; exit 3"], env={"PATH": SYSTEM_PATH}, stderr=log.fileno())
        assert spawned.wait(60) == 3
        spawned.close()
    assert (tmp_path / "log").read_bytes() == b"oops\n"


def test_a_large_environment_does_not_block() -> None:
    big = {f"NAME{index}": "x" * 1000 for index in range(1000)}
    assert len(look(env=big)["environ"]) == 1000


def test_a_signal_shows_as_a_negative_exit_code() -> None:
    spawned = spawn(["cat"], env={"PATH": SYSTEM_PATH})
    assert spawned.reap() is None
    assert spawned.send_signal(signal.SIGTERM)
    assert spawned.wait(60) == -signal.SIGTERM
    assert not spawned.send_signal(signal.SIGTERM)
    spawned.close()


def test_a_reaped_program_never_costs_a_later_child_its_status() -> None:
    spawned = spawn(["true"], env={"PATH": SYSTEM_PATH})
    assert spawned.wait(60) == 0
    spawned.close()
    del spawned
    assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7


@pytest.mark.parametrize(
    ("argv", "options", "stage", "number", "reason"),
    [
        (
            ["nope"],
            {},
            "exec",
            errno.ENOENT,
            "cannot start 'nope': command not found on PATH=/usr/local/bin:/usr/bin:/bin",
        ),
        (["/nope"], {}, "exec", errno.ENOENT, "cannot start '/nope': No such file or directory"),
        (["/etc/passwd"], {}, "exec", errno.EACCES, "cannot start '/etc/passwd': Permission denied"),
        (["cat"], {"cwd": "/nope"}, "chdir", errno.ENOENT, "cannot enter its directory /nope: No such file"),
        (["a\0b"], {}, "exec", errno.EINVAL, "embedded null"),
        (["cat"], {"rlimits": {"magic": 1}}, "rlimits", errno.EINVAL, "this system has no limit 'magic'"),
        (
            ["cat"],
            {"entry": Entry(cgroup="/nope")},
            "cgroup",
            errno.ENOENT,
            "its container was removed in the meantime",
        ),
        ([], {}, "spec", errno.EINVAL, "the command is empty"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(argv, options, stage, number, reason) -> None:
    with pytest.raises(SpawnError) as raised:
        spawn(argv, env={"PATH": SYSTEM_PATH}, **options)
    assert (raised.value.stage, raised.value.errno) == (stage, number)
    assert reason in str(raised.value)


def test_a_script_whose_interpreter_is_missing_is_told_from_a_missing_script(tmp_path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/nope/python\n")
    script.chmod(0o755)
    with pytest.raises(SpawnError, match="is there, but the interpreter in its first line is not"):
        spawn([str(script)], env={})


def test_a_pool_thread_may_not_spawn() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            spawn(["true"], env={"PATH": SYSTEM_PATH})
        except RuntimeError as problem:
            caught.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "cannot spawn from this thread" in str(caught[0])


def test_the_program_dies_with_its_parent() -> None:
    parent = """
import os, signal, sys
from hermesd.workers.containment import Entry
from hermesd.workers.spawn import spawn
child = spawn(["cat"], env={"PATH": os.environ["PATH"]}, entry=Entry(parent_death_signal=signal.SIGKILL))
print(child.pid, flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        pidfd = os.pidfd_open(pid)
        process.communicate()
    from hermesd.workers.containment.identity import wait_dead

    assert wait_dead(pidfd, 60)
    os.close(pidfd)


@pytest.fixture
def stuck(tmp_path: Path) -> Entry:
    """An entry in which a shim waits for ever: the opening of a FIFO that nobody reads."""
    os.mkfifo(tmp_path / "cgroup.procs")
    return Entry(cgroup=str(tmp_path), tag=make_tag("0123456789ab"))


def shims(entry: Entry) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and read_tag(name) == entry.tag]


def test_a_shim_that_hangs_is_killed_after_the_time_out(stuck) -> None:
    with pytest.raises(SpawnError, match=r"cannot start 'cat': no exec within 0\.2 s"):
        spawn(["cat"], env={}, entry=stuck, timeout=0.2)  # it would wait for ever
    assert shims(stuck) == []


async def test_a_loop_goes_on_while_a_program_starts() -> None:
    spawned = await spawn_async(["cat"], env={"PATH": SYSTEM_PATH})
    first, second = asyncio.create_task(spawned.wait_async()), asyncio.create_task(spawned.wait_async())
    await asyncio.sleep(0)
    stdin, stdout = spawned.take_pipes()
    os.close(stdin)
    assert await asyncio.wait_for(asyncio.gather(first, second), 60) == [0, 0]
    os.close(stdout)
    spawned.close()


async def test_an_awaited_start_fails_with_the_same_sentence() -> None:
    with pytest.raises(SpawnError, match="command not found on PATH=/bin"):
        await spawn_async(["nope"], env={"PATH": "/bin"})


async def test_a_hanging_shim_is_killed_after_the_time_out_of_a_coroutine(stuck) -> None:
    with pytest.raises(SpawnError, match="no exec within"):
        await spawn_async(["cat"], env={}, entry=stuck, timeout=0.2)
    assert shims(stuck) == []


async def test_a_cancelled_start_leaves_no_process(stuck) -> None:
    task = asyncio.create_task(spawn_async(["cat"], env={}, entry=stuck))
    async with asyncio.timeout(60):
        while not shims(stuck):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shims(stuck) == []
