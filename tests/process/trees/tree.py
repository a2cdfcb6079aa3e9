"""Process trees that do not want to die, and trees that burn CPU time: ``tree.py SHAPE PORT [NUMBER]``.

Every process of a tree connects to 127.0.0.1:PORT by itself and keeps the connection: its end proves the death. What
it burnt it writes there as "cpu SECONDS". All end by themselves after a minute.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

ITSELF = os.path.abspath(__file__)
PYTHON = [sys.executable, "-I", "-S", ITSELF]
connection: socket.socket | None = None


def connect() -> None:
    """A connection of this process's own; one that a fork brought along is closed."""
    global connection
    if connection is not None:
        connection.close()
    connection = socket.create_connection(("127.0.0.1", PORT))


def sit() -> None:
    connect()
    rest()


def rest() -> None:
    signal.alarm(60)
    while True:
        signal.pause()


def fork(action, *arguments) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            action(*arguments)
        finally:
            os._exit(0)
    return pid


def ignore_polite_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def hostile() -> None:
    """100 processes: of each 10 leaves, 4 plain, 2 in their own session, 2 orphaned daemons, 2 that stop themselves."""
    ignore_polite_signals()
    for _ in range(9):
        fork(hostile_branch)
    sit()


def hostile_branch() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for kind in range(10):
        if kind in (6, 7):
            fork(fork, daemon)
        else:
            fork(hostile_leaf, kind)
    sit()


def hostile_leaf(kind: int) -> None:
    if kind in (4, 5):
        os.setsid()
    connect()
    if kind in (8, 9):
        os.kill(os.getpid(), signal.SIGSTOP)
    rest()


def daemon() -> None:
    os.setsid()
    sit()


def hoppers() -> None:
    """NUMBER processes that fork, leave their session and exit without pause; one connection for each line of them."""
    for _ in range(NUMBER):
        fork(hop)
    sit()


def hop() -> None:
    connect()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        os.setsid()


def leader_first() -> None:
    """The first process ends at once and leaves five."""
    for _ in range(5):
        fork(sit)


def clean_daemon() -> None:
    """A process that has shed its parent, its session and its whole environment."""
    fork(fork, os.execve, "/usr/bin/env", ["env", "-i", "setsid", *PYTHON, "sit", str(PORT)], {})
    sit()


def chain() -> None:
    """As npx starts a server: sh, sh, python, where killing the first leaves the others."""
    inner = " ".join([*PYTHON, "sit", str(PORT)]) + "; true"
    connect()
    os.set_inheritable(connection.fileno(), True)
    os.execv("/bin/sh", ["sh", "-c", f"sh -c '{inner}'; true"])


def respawner() -> None:
    """Starts a new child at the death of each."""
    connect()
    signal.alarm(60)
    while True:
        for _ in range(3):
            fork(sit)
        os.wait()


def burn(seconds: float) -> None:
    connect()
    while time.process_time() < seconds:
        pass
    tell_cpu()


def tell_cpu() -> None:
    connection.sendall(f"cpu {time.process_time()}\n".encode())


def tell_and_rest() -> None:
    connect()
    tell_cpu()
    rest()


def burning_child() -> None:
    os.waitpid(fork(burn, 0.4), 0)
    tell_and_rest()


def burning_grandchildren() -> None:
    os.waitpid(fork(burn_in_turn, 5), 0)
    tell_and_rest()


def burn_in_turn(count: int) -> None:
    for _ in range(count):
        os.waitpid(fork(burn, 0.2), 0)


def burning_orphan() -> None:
    """The wrapper ends first; the orphan's end is its connection's."""
    os.waitpid(fork(fork, burn, 0.8), 0)
    tell_and_rest()


def burning_unwaited() -> None:
    """The parent ignores SIGCHLD: the kernel keeps no account of its dead children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(4):
        fork(burn, 0.2)
    tell_and_rest()


PORT = int(sys.argv[2])
NUMBER = int(sys.argv[3]) if len(sys.argv) > 3 else 0
SHAPES = {
    shape.__name__: shape
    for shape in (
        sit,
        hostile,
        hoppers,
        leader_first,
        clean_daemon,
        chain,
        respawner,
        burning_child,
        burning_grandchildren,
        burning_orphan,
        burning_unwaited,
    )
}
SHAPES[sys.argv[1]]()
