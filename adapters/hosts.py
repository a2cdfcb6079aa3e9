"""Names and addresses of HTTP servers: which mean this machine only, and what a Host header says."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a name or address without port means this machine only."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def is_address(host: str) -> bool:
    """Whether it is a numeric address: no DNS answer can make one of these mean something else."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_name(header: str) -> str:
    """The name or address of a Host header, without its port."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def means_this_machine(header: str, more: frozenset[str]) -> bool:
    """Whether a client that sent this Host header meant a server on loopback, or one of the names ``more``.

    A web page can make a name of its own mean 127.0.0.1 and then counts as the same origin (DNS rebinding): it cannot
    hide that name from the Host header.
    """
    host = host_name(header)
    return is_loopback(host) or is_address(host) or host in more


def to_bind(host: object) -> str:
    """The address of a setting; "" is this machine only."""
    text = str(host or "127.0.0.1").strip().strip("[]")
    # "localhost" would be bound twice, for IPv4 and IPv6, and with port 0 on two different ports.
    return "127.0.0.1" if text.lower() == "localhost" else text


def authority(host: str, port: int) -> str:
    """``127.0.0.1:8644``, ``[::1]:8644``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
