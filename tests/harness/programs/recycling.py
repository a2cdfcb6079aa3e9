"""Kill requests on recycled pids, inside a pid namespace of its own: ``recycling.py REQUESTS SEED``, one JSON line out.

Process 1 of the namespace starts *innocents* under numbers of its choice (``/proc/sys/kernel/ns_last_pid``) and counts
every signal that reaches one. Its child, the *killer*, starts victims, notes their identities, lets them die, has their
numbers given to innocents, and then asks hermesd's own code to kill the victims.

An innocent starts in a later clock tick than the victim whose number it gets: the kernel counts start times in ticks,
so that two processes of one number within a tick (10 ms) look the same. No machine gets round its numbers that fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from harness.keepers import Instance

from hermesd.ipc.keeping import Fork, ForkFailed, Gone, Kill, Take
from hermesd.supervisor.instance.paths import paths_of
from hermesd.supervisor.pool import leftovers
from hermesd.workers import containment
from hermesd.workers.containment import identity, pgroup, subreaper, sweep, tag
from hermesd.workers.containment.contract import Container, Containment
from hermesd.workers.containment.errors import ContainmentError
from hermesd.workers.containment.identity import Identity

BATCH = 25
TRIES = 5
CATCHABLE = [
    number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)
]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


# ---- process 1: the innocents ----------------------------------------------------------------------------------------


class Innocents:
    """Children of process 1 that do nothing but count what they are sent."""

    def __init__(self) -> None:
        self._caught_read, self._caught_write = os.pipe()
        os.set_blocking(self._caught_read, False)
        self._pids: list[int] = []

    def start(self, pids: list[int]) -> list[int]:
        """Start one under each of these numbers; returns the numbers that were free for it."""
        ready_read, ready_write = os.pipe()
        started = []
        for wanted in pids:
            # Somebody else may fork at the same moment and get the number; whoever got it lives or is soon gone.
            for _ in range(TRIES):
                Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1), "ascii")
                pid = os.fork()
                if pid == 0:
                    self._be(ready_write)
                assert os.read(ready_read, 1)
                self._pids.append(pid)
                if pid == wanted:
                    started.append(pid)
                    break
        os.close(ready_read)
        os.close(ready_write)
        return started

    def _be(self, ready: int) -> NoReturn:
        for number in CATCHABLE:
            with contextlib.suppress(OSError):  # the C library keeps two for itself
                signal.signal(number, lambda caught, frame: os.write(self._caught_write, bytes([caught])))
        os.setsid()
        os.write(ready, b"+")
        while True:
            signal.pause()

    def end(self) -> dict[str, int]:
        """How many signals reached them, by name; they are gone afterwards."""
        harm: dict[str, int] = {}
        while select.select([self._caught_read], [], [], 0)[0]:
            for number in os.read(self._caught_read, 4096):
                harm[signal.Signals(number).name] = harm.get(signal.Signals(number).name, 0) + 1
        for pid in self._pids:
            state, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if state and os.WIFSTOPPED(status):
                harm["SIGSTOP"] = harm.get("SIGSTOP", 0) + 1
            elif state:
                harm["SIGKILL"] = harm.get("SIGKILL", 0) + 1
                continue
            os.kill(pid, signal.SIGKILL)  # our own child, not reaped yet
            os.waitpid(pid, 0)
        self._pids.clear()
        return harm


def serve(connection: socket.socket, killer: int) -> int:
    """Answer the killer until it ends; its exit status."""
    innocents = Innocents()
    with connection.makefile("rw") as stream:
        for line in stream:
            pids = json.loads(line)
            json.dump(innocents.end() if pids is None else innocents.start(pids), stream)
            stream.write("\n")
            stream.flush()
    return os.waitstatus_to_exitcode(os.waitpid(killer, 0)[1])


# ---- the killer ------------------------------------------------------------------------------------------------------


class Killer:
    """Starts victims, and asks for their deaths when they are dead and their numbers somebody else's."""

    def __init__(self, connection: socket.socket, seed: int):
        self._stream = connection.makefile("rw")
        self._chance = random.Random(seed)
        self._instance = self._chance.randbytes(6).hex()
        self._home = Path(tempfile.mkdtemp(prefix="hd-"))
        self.requests: dict[str, int] = {}
        self.harm: dict[str, int] = {}

    def _ask(self, pids: list[int] | None) -> Any:
        json.dump(pids, self._stream)
        self._stream.write("\n")
        self._stream.flush()
        return json.loads(self._stream.readline())

    def check_that_harm_is_seen(self) -> None:
        """The count is worth nothing if it cannot count."""
        number = self._end(self._start(1))
        for sent, counted in ((signal.SIGTERM, "SIGTERM"), (signal.SIGSTOP, "SIGSTOP"), (signal.SIGKILL, "SIGKILL")):
            (pid,) = self._ask(number)
            stranger = identity.identify(pid)
            assert stranger is not None
            assert identity.signal_process(stranger, sent)
            deadline = time.monotonic() + 5.0
            harm: dict[str, int] = {}
            while not harm and time.monotonic() < deadline:
                time.sleep(0.01)
                harm = self._ask(None)
            assert harm == {counted: 1}, f"{counted} to an innocent was counted as {harm}"

    def run(self, requests: int) -> None:
        ways: list[Callable[[int], None]] = [
            self._by_identity, self._by_pidfd, self._by_subreaper, self._by_sweep, self._by_doctor, self._by_group,
            self._by_keeper,
        ]  # fmt: skip
        if _offers(self._instance, "cgroup"):
            ways.append(self._by_cgroup)
        order = list(ways)
        while (left := requests - sum(self.requests.values())) > 0:
            if not order:
                order = self._chance.sample(ways, len(ways))
            order.pop()(min(left, BATCH))

    def _done(self, way: str, requests: int) -> None:
        self.requests[way] = self.requests.get(way, 0) + requests
        for name, count in self._ask(None).items():
            self.harm[f"{way}: {name}"] = self.harm.get(f"{way}: {name}", 0) + count

    # ---- victims -------------------------------------------------------------------------------------------------

    def _start(self, count: int, *, enter: Container | None = None, tagged: bool = False) -> list[tuple[Identity, int]]:
        """Their identities and pidfds."""
        victims = []
        for _ in range(count):
            ready_read, ready_write = os.pipe()
            pid = os.fork()
            if pid == 0:
                _be_a_victim(ready_write, enter, tag.make_tag(self._instance) if tagged else "")
            os.close(ready_write)
            os.read(ready_read, 1)
            os.close(ready_read)
            known = identity.identify(pid)
            assert known is not None
            victims.append((known, os.pidfd_open(pid)))
        return victims

    def _end(self, victims: list[tuple[Identity, int]]) -> list[int]:
        """End them, and wait for the next tick of the clock that starts are counted in; their numbers."""
        for victim, pidfd in victims:
            identity.send(pidfd, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(victim.pid, 0)
        last = max(victim.start_ticks for victim, _ in victims)
        while int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_SECOND) <= last + 1:
            time.sleep(0.001)
        return [victim.pid for victim, _ in victims]

    def _recycle(self, victims: list[tuple[Identity, int]]) -> None:
        wanted = self._end(victims)
        given = self._ask(wanted)
        assert given == wanted, f"only {len(given)} of {len(wanted)} numbers could be given anew"

    # ---- ways to kill --------------------------------------------------------------------------------------------

    def _by_identity(self, count: int) -> None:
        victims = self._start(count)
        self._recycle(victims)
        for victim, pidfd in victims:
            number = self._chance.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
            assert not identity.signal_process(victim, number)
            os.close(pidfd)
        self._done("pid and start time", count)

    def _by_pidfd(self, count: int) -> None:
        victims = self._start(count)
        self._recycle(victims)
        for victim, pidfd in victims:
            assert not identity.send(pidfd, signal.SIGKILL)
            assert identity.pid_of(pidfd) is None
            assert identity.open_pidfd(victim) is None
            os.close(pidfd)
        self._done("pidfd", count)

    def _by_subreaper(self, count: int) -> None:
        self._by_container("a keeper's ward, subreaper", subreaper.SubreaperContainment(self._instance), count)

    def _by_cgroup(self, count: int) -> None:
        chosen = containment.choose(self._instance, "cgroup").containment
        self._by_container("a keeper's ward, cgroup", chosen, count)

    def _by_container(self, way: str, chosen: Containment, count: int) -> None:
        """As a keeper does it: fork, register, reap, and then a Kill for a ward that has died."""
        chosen.prepare()
        wards = []
        victims = []
        for number in range(count):
            container = chosen.worker(f"r{number}", tag.make_tag(self._instance))
            container.create()
            [(victim, pidfd)] = self._start(1, enter=container if way.endswith("cgroup") else None)
            container.started(victim.pid)
            chosen.register(victim.pid)
            container.members()
            victims.append((victim, pidfd))
            wards.append((container, pidfd))
        self._recycle(victims)
        for victim, _ in victims:
            chosen.unregister(victim.pid)
        for container, pidfd in wards:
            deadline = time.monotonic() + 5.0
            while not container.kill_round((pidfd,)):
                assert time.monotonic() < deadline, f"{container.name} is not over"
                time.sleep(0.001)
            os.close(pidfd)
        chosen.leave()
        self._done(way, count)

    def _by_keeper(self, count: int) -> None:
        """A keeper process, asked to kill workers that have died, and those that it is told were another keeper's."""
        instance = Instance(Path(tempfile.mkdtemp(prefix="hd-")), "auto")
        try:
            supervisor = instance.keeper().claim()
            workers = [supervisor.fork(f"w{number}") for number in range(min(count, 5))]
            victims = [(Identity(forked.pid, forked.start_ticks), os.pidfd_open(forked.pid)) for _, forked in workers]
            for _, pidfd in victims:
                identity.send(pidfd, signal.SIGKILL)
            for _ in victims:
                supervisor.hear(Gone)
            self._recycle(victims)
            for number in range(count):
                spec, forked = self._chance.choice(workers)
                if self._chance.random() < 0.5:
                    supervisor.send(Kill(spec.worker, dump=self._chance.random() < 0.5))
                    continue
                supervisor.send(Take(f"t{number}", spec.tag, forked.pid, forked.start_ticks))
                supervisor.send(Kill(f"t{number}"))
                assert supervisor.hear(Gone).worker == f"t{number}"
            # Requests are served in order, so that this refusal comes when all of them were.
            supervisor.send(Fork("none", tag.make_tag(instance.id)))
            supervisor.hear(ForkFailed)
            for _, pidfd in victims:
                os.close(pidfd)
        finally:
            instance.close()
            shutil.rmtree(instance.path)
        self._done("a keeper", count)

    def _by_group(self, count: int) -> None:
        """Without pidfds, as on macOS: ps tells the start to the second."""
        chosen = pgroup.GroupContainment(self._instance)
        container = chosen.worker("r", tag.make_tag(self._instance))
        victims = self._start(count)
        for victim, _ in victims:
            container.started(victim.pid)
        table = pgroup.process_table()
        rows = [table[victim.pid] for victim, _ in victims]
        time.sleep(1.1)  # to ps, what starts within a second starts at one time
        self._recycle(victims)
        pgroup.signal_rows(rows, signal.SIGKILL)
        while not container.kill_round():
            continue
        for _, pidfd in victims:
            os.close(pidfd)
        self._done("group", count)

    def _by_sweep(self, count: int) -> None:
        victims = self._start(count, tagged=True)
        found = sweep.find(self._instance)
        assert {left.pid for left in found} == {victim.pid for victim, _ in victims}
        self._recycle(victims)
        for left in found:
            assert not identity.signal_process(Identity(left.pid, left.start_ticks), signal.SIGSTOP, signal.SIGKILL)
        assert sweep.sweep(self._instance) == []
        for _, pidfd in victims:
            os.close(pidfd)
        self._done("sweep", count)

    def _by_doctor(self, count: int) -> None:
        """The numbers change hands in the middle of a look, when doctor asks what is in use."""
        paths = paths_of(self._home, {})
        self._instance, instance = paths.instance, self._instance
        victims = self._start(count, tagged=True)
        waiting = [victims]

        def in_use() -> leftovers.InUse:
            if waiting:
                self._recycle(waiting.pop())
            return leftovers.InUse(frozenset(), frozenset(), frozenset())

        mended = leftovers.mend_beside(paths, in_use)
        assert not mended.done, mended
        assert not mended.left, mended
        for _, pidfd in victims:
            os.close(pidfd)
        self._instance = instance
        self._done("doctor --fix", count)

    def close(self) -> None:
        self._home.rmdir()


def _be_a_victim(ready: int, enter: Container | None, tag_of_it: str) -> NoReturn:
    try:
        os.setsid()
        if enter is not None:
            Path(f"{enter.place}/agent/cgroup.procs").write_text("0", "ascii")
        if tag_of_it:
            # The shell writes when it has become what /proc shows, and then waits for a line that does not come.
            read, write = os.pipe()
            os.set_inheritable(write, True)
            os.dup2(read, 0)
            os.dup2(ready, 1)
            os.execve("/bin/sh", ["/bin/sh", "-c", "printf +; read line"], {tag.VARIABLE: tag_of_it})
        os.write(ready, b"+")
        while True:
            signal.pause()
    finally:
        os._exit(70)


def _offers(instance: str, name: str) -> bool:
    try:
        containment.choose(instance, name)
    except ContainmentError:
        return False
    return True


def main() -> int:
    requests, seed = int(sys.argv[1]), int(sys.argv[2])
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return serve(ours, pid)
    ours.close()
    killer = Killer(theirs, seed)
    try:
        killer.check_that_harm_is_seen()
        killer.run(requests)
    finally:
        killer.close()
    print(json.dumps({"requests": killer.requests, "signals": killer.harm}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
