"""hermes-agent's own gateway: one process with the chat's connection and the AIAgents, what hermesd stands beside."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.hermes.environment import PYTHON

STOP_SECONDS = 30.0


@contextlib.contextmanager
def running(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """``environment`` names this home and its chats' tokens. Who writes to it waits for answers."""
    log = home / "gateway.out"
    with log.open("wb") as out:
        gateway = subprocess.Popen(
            [str(PYTHON), "-m", "gateway.run"],
            env=dict(environment), cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield
        except AssertionError as error:
            raise RuntimeError(f"hermes-agent's gateway: {error}\n{log.read_text('utf-8')[-2000:]}") from error
        finally:
            gateway.terminate()
            try:
                gateway.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                gateway.kill()
                gateway.wait()
