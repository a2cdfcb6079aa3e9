"""A worker reduced to its servers, steered by JSON lines over a socket: ``worker.py STRATEGY INSTANCE WORKER PORT``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

from hermesd.workers.containment import open_containment
from hermesd.workers.spawn import spawn


class Worker:
    def __init__(self, strategy: str, instance: str, worker: str):
        self.worker = worker
        self.containment = open_containment(strategy, instance)
        self.servers: dict[str, tuple] = {}
        self.children: list[subprocess.Popen] = []

    def start(self, server: str, argv: list[str], generation: int = 1) -> dict:
        container = self.containment.server(self.worker, os.environ["HERMESD_TAG"], server, generation)
        container.create()
        child = spawn(argv, env={"PATH": os.environ["PATH"]}, entry=container.entry())
        container.started(child.pid)
        self.servers[server] = container, child
        return {"pid": child.pid, "tag": container.tag, "place": container.place}

    def kill(self, server: str, seconds: float = 10.0) -> dict:
        container, child = self.servers.pop(server)
        began = time.perf_counter()
        while not (over := container.kill_round([child.pidfd])) and time.perf_counter() - began < seconds:
            child.reap()
            self.containment.reap_adopted()
            time.sleep(0.0005)
        took = time.perf_counter() - began
        exit_code = child.wait(1)
        child.close()
        return {"over": over, "took": took, "exit_code": exit_code, "cpu_seconds": container.cpu_seconds()}

    def members(self, server: str) -> dict:
        return {"pids": self.servers[server][0].members()}

    def popen(self, exit_code: int) -> dict:
        """A child of the agent's own, which nobody has waited for yet."""
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"raise SystemExit({exit_code})"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.children.append(child)
        return {"pid": child.pid}

    def poll(self) -> dict:
        return {"exit_codes": [child.wait(5) for child in self.children]}

    def reap(self) -> dict:
        return {"pids": self.containment.reap_adopted()}

    def zombies(self) -> dict:
        with open("/proc/thread-self/children") as file:
            pids = file.read().split()
        return {"pids": [int(pid) for pid in pids if " Z " in open(f"/proc/{pid}/stat").read()]}

    def empty_own_container(self) -> dict:
        """What a worker does whose keeper has died; with a cgroup it does not live to answer."""
        container = self.containment.worker(self.worker, os.environ["HERMESD_TAG"])
        while not container.kill_round():
            time.sleep(0.001)
        os._exit(0)

    def serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rw", encoding="utf-8")
        for line in stream:
            verb, arguments = json.loads(line)
            stream.write(json.dumps(getattr(self, verb)(**arguments)) + "\n")
            stream.flush()


if __name__ == "__main__":
    Worker(*sys.argv[1:4]).serve(socket.create_connection(("127.0.0.1", int(sys.argv[4]))))
