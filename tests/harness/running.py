"""A hermesd that is started, used and ended, and that leaves nothing: for a test, or shared by the tests of a file."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .daemon import Daemon

TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time"], "tools_wait": 60}
"""A real MCP server from PyPI. No machine is too slow for its tools to be there in the first turn."""


@contextmanager
def running(
    config: Mapping[str, Any], *, env: Mapping[str, str] | None = None, unprivileged: bool = False
) -> Iterator[Daemon]:
    """A hermesd of its own with this ``config.yaml``; after it no process, cgroup, socket or temporary file is left."""
    place = Path(tempfile.mkdtemp(prefix="hd-"))
    temporary = place / "tmp"
    temporary.mkdir()
    if unprivileged:
        place.chmod(0o755)
        temporary.chmod(0o777)
    environment = {"TMPDIR": str(temporary), **(env or {})}
    try:
        # JSON is YAML too.
        with Daemon(place / "home", json.dumps(config, indent=1), env=environment, unprivileged=unprivileged) as made:
            made.start()
            yield made
        made.wait_nothing_left(20.0)
        left = [*made.cgroups(), *made.sockets(), *map(str, temporary.iterdir())]
        assert not left, f"left behind: {left}"
    finally:
        shutil.rmtree(place)


def wait_until(condition: Callable[[], Any], seconds: float = 30.0, *, what: str = "") -> Any:
    """What ``condition`` gives, once that is true. For a state that can only be asked for."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)
    return found
