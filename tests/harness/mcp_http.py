"""Real MCP servers that are reached by url: ``server-everything`` from npm, and one made with the SDK for Python."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from .scene import NODE

EVERYTHING = NODE / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
MODERN = Path(__file__).parent / "programs" / "modern_server.py"
GUARDED = MODERN.with_name("oauth_server.py")


class Running:
    """``url`` is what goes into ``mcp_servers.NAME.url``."""

    def __init__(self, process: subprocess.Popen[bytes], url: str):
        self.process = process
        self.url = url

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def everything(transport: str, *, port: int = 0, path: str = "/mcp") -> Iterator[Running]:
    """``transport``: "streamableHttp", or "sse" with the path /sse."""
    with _running(["node", str(EVERYTHING), transport], {"PORT": str(port)}, path) as running:
        yield running


@contextlib.contextmanager
def modern(*options: str, port: int = 0) -> Iterator[Running]:
    """It speaks the revision without a handshake, and the older ones; see the program for its options."""
    scheme = "https" if "--certificate" in options else "http"
    command = [sys.executable, str(MODERN), "--port", str(port), *options]
    with _running(command, {}, "/mcp", scheme=scheme) as running:
        yield running


@contextlib.contextmanager
def _running(command: Sequence[str], env: Mapping[str, str], path: str, *, scheme: str = "http") -> Iterator[Running]:
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, env={**os.environ, **env}, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            yield Running(process, f"{scheme}://127.0.0.1:{_port_of(process)}{path}")
        finally:
            process.kill()


def _port_of(process: subprocess.Popen[bytes]) -> int:
    """The kernel knows where it listens; what the servers print of it is what they were told."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen, exit status {process.poll()}")


@contextlib.contextmanager
def guarded(*, life: float = 2.0) -> Iterator[Running]:
    """It asks for authorization; access tokens live ``life`` seconds, a refresh token is good for one use."""
    with _running([sys.executable, str(GUARDED), "--port", "0", "--life", str(life)], {}, "/mcp") as running:
        yield running


def figures_of(running: Running) -> dict[str, int]:
    """What the authorization server of `guarded` has counted: "refreshed", "refused", "reused"."""
    with urllib.request.urlopen(running.url.replace("/mcp", "/figures"), timeout=30) as answer:
        found: dict[str, int] = json.loads(answer.read())
        return found


def visit(address: str, *, follow: bool = True) -> str:
    """What a browser does with the address of a login; returns where it ends, without going there if not ``follow``."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not follow and "code=" in newurl:
                raise _Ended(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    try:
        with urllib.request.build_opener(Stay).open(address, timeout=30) as answer:
            return str(answer.geturl())
    except _Ended as ended:
        return str(ended)


class _Ended(Exception):
    pass
