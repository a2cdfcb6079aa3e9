"""Ports for those who must name theirs before they listen, or listen on it again."""

from __future__ import annotations

import random
import socket
from pathlib import Path

CHANCE = random.SystemRandom()  # every process of a run draws others, however they are seeded
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """One on 127.0.0.1 that nobody has, and that the kernel gives to nobody by itself.

    Of those that it gives out, for port 0 and for each connection, another process may get the same one meanwhile.
    """
    given = range(*map(int, RANGE.read_text().split())) if RANGE.exists() else range(0)
    candidates = [port for port in range(10_000, 60_000) if port not in given] or list(given)
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := CHANCE.choice(candidates)))
            except OSError:
                continue
            return port
