"""A keeper reduced to its containers, steered by JSON lines: ``keeper.py STRATEGY INSTANCE``.

It forks, kills, measures and reaps as the real one does, so that containments can be tested as any user, in any cgroup.
"""

from __future__ import annotations

import json
import os
import sys
import time

from hermesd.workers.containment import Containment, ContainmentError, choose, sweep
from hermesd.workers.containment.identity import is_dead
from hermesd.workers.containment.tag import make_tag


class Keeper:
    def __init__(self, strategy: str, instance: str):
        choice = choose(instance, strategy)
        self.containment: Containment = choice.containment
        self.refused = choice.refused
        self.workers: dict[str, tuple] = {}  # name -> container, pid, pidfd
        self.reaped: dict[int, int] = {}

    def fork(self, worker: str, argv: list[str], enters: bool = True) -> dict:
        """``enters``: false for a child that has been forked but is not in its container yet, and never comes there."""
        tag = make_tag(self.containment.instance)
        container = self.containment.worker(worker, tag)
        container.create()
        pid = os.fork()
        if pid == 0:
            try:
                if enters:
                    container.enter()
                os.execve(argv[0], argv, {**os.environ})
            except (OSError, ContainmentError) as problem:
                os.write(2, f"{problem}\n".encode())
            finally:
                os._exit(99)
        container.started(pid)
        self.containment.register(pid)
        self.workers[worker] = container, pid, os.pidfd_open(pid)
        return {"pid": pid, "tag": tag, "place": container.place}

    def kill(self, worker: str, seconds: float = 10.0) -> dict:
        container, pid, pidfd = self.workers.pop(worker)
        began = time.perf_counter()
        rounds = 1
        longest = 0.0
        while True:
            round_began = time.perf_counter()
            over = container.kill_round([pidfd])
            longest = max(longest, time.perf_counter() - round_began)
            if over:
                break
            self.reap()
            if time.perf_counter() - began > seconds:
                return {"over": False, "left": len(container.members()), "rounds": rounds}
            time.sleep(0.0005)
            rounds += 1
        took = time.perf_counter() - began
        os.close(pidfd)
        self.reap()
        self.containment.unregister(pid)
        cpu = container.cpu_seconds()
        return {"over": True, "took": took, "rounds": rounds, "longest_round": longest, "cpu_seconds": cpu}

    def reap(self) -> dict:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.reaped[pid] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            pass
        return {"reaped": len(self.reaped)}

    def usage(self, memory: bool = False) -> dict:
        containers = {name: entry[0] for name, entry in self.workers.items()}
        roots = {name: entry[1] for name, entry in self.workers.items()}
        began = time.perf_counter()
        figures = self.containment.usage(containers, roots, memory=memory)
        took = time.perf_counter() - began
        return {
            "took": took,
            "workers": {
                name: {
                    "cpu_seconds": usage.cpu_seconds,
                    "memory_bytes": usage.memory_bytes,
                    "processes": usage.processes,
                    "pids": usage.pids,
                    "exact": usage.exact,
                }
                for name, usage in figures.items()
            },
        }

    def die(self, worker: str) -> dict:
        """Kill the worker's first process alone and wait for its death, as if it had crashed."""
        _, pid, pidfd = self.workers[worker]
        os.kill(pid, 9)
        while not is_dead(pidfd):
            time.sleep(0.0005)
        self.reap()
        return {}

    def leave(self) -> dict:
        self.containment.leave()
        self.reap()
        return {"reaped": len(self.reaped)}

    def sweep(self, spare: list[int]) -> dict:
        began = time.perf_counter()
        found = sweep.sweep(self.containment.instance, spare)
        return {"took": time.perf_counter() - began, "found": [[left.pid, left.proof, left.command] for left in found]}

    def find(self, spare: list[int]) -> dict:
        found = sweep.find(self.containment.instance, spare)
        return {"found": [[left.pid, left.proof, left.command, left.age, left.memory_bytes] for left in found]}

    def serve(self) -> None:
        self.containment.prepare()
        answer({"name": self.containment.name, "refused": self.refused, "pid": os.getpid()})
        for line in sys.stdin:
            verb, arguments = json.loads(line)
            try:
                answer(getattr(self, verb)(**arguments))
            except ContainmentError as problem:
                answer({"error": str(problem)})


def answer(value: dict) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        keeper = Keeper(sys.argv[1], sys.argv[2])
    except ContainmentError as problem:
        answer({"error": str(problem)})
        sys.exit(1)
    keeper.serve()
