"""A model's endpoint that others wrote: ``llmock`` from PyPI, which fails as it is told to and judges its clients."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from .daemon import BIN


class LlMock:
    """``url`` is what goes into ``model.base_url``."""

    def __init__(self, address: str):
        self.address = address
        self.url = f"{address}/v1"

    def behave(self, *behaviors: Mapping[str, Any]) -> None:
        """What the next requests meet, e.g. ``{"type": "fail", "status": 429, "retry_after": 1}``."""
        self._ask("POST", "/_llmock/scenario", {"behaviors": list(behaviors)})

    def requests(self) -> list[dict[str, Any]]:
        """Every request since the last `reset`, oldest first."""
        found: list[dict[str, Any]] = self._ask("GET", "/_llmock/requests")["requests"]
        return found

    def verdict(self) -> list[str]:
        """What it thinks its client has done wrong since the last `reset`."""
        return [f"{found['code']}: {found['title']}" for found in self._ask("GET", "/_llmock/verdict")["findings"]]

    def reset(self) -> None:
        self._ask("POST", "/_llmock/reset", {})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, method=method), timeout=20) as up:
            return json.loads(up.read())


@contextlib.contextmanager
def llmock(*options: str) -> Iterator[LlMock]:
    """Run one on a port of its own."""
    with subprocess.Popen(
        [str(BIN / "llmock"), "serve", "--host", "127.0.0.1", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            yield LlMock(_address(process))
        finally:
            process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if match := re.search(r"running on (http://[\d.]+:[1-9]\d*)", line):
            threading.Thread(target=process.stdout.read, name="llmock's output", daemon=True).start()
            return match[1]
    raise RuntimeError(f"llmock did not start: {''.join(told)}")
