"""A model's endpoint that others wrote: ``@copilotkit/aimock`` from npm, which answers by fixtures."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .scene import NODE

PROGRAM = NODE / "node_modules" / ".bin" / "llmock"
"""Its command without a configuration file, as the package names it."""


def has_aimock() -> bool:
    return PROGRAM.exists()


class AiMock:
    """``url`` is what goes into ``model.base_url``."""

    def __init__(self, address: str, process: subprocess.Popen[str]):
        self._process = process
        self.address = address
        self.url = f"{address}/v1"

    def add(self, *fixtures: Mapping[str, Any]) -> None:
        """Further fixtures, in front of nothing: the first that matches answers."""
        self._ask("POST", "/__aimock/fixtures", {"fixtures": list(fixtures)})

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests for a chat completion, oldest first."""
        found = self._ask("GET", "/__aimock/journal?limit=100000")
        entries = found["entries"] if isinstance(found, dict) else found
        return [entry["body"] for entry in entries if "chat/completions" in entry.get("path", "")]

    def forget(self) -> None:
        """Empty the journal."""
        self._ask("POST", "/__aimock/reset/journal")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The model says nothing more meanwhile: what is done here comes before the rest of its answer."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        request = urllib.request.Request(
            self.address + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")


@contextlib.contextmanager
def aimock(*fixtures: Mapping[str, Any], options: Sequence[str] = ()) -> Iterator[AiMock]:
    """Run one with these fixtures on a port of its own."""
    with tempfile.TemporaryDirectory(prefix="aimock-") as folder:
        Path(folder, "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
        with subprocess.Popen(
            [str(PROGRAM), "-p", "0", "-f", folder, "--journal-max", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                yield AiMock(_address(process), process)
            finally:
                process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if match := re.search(r"listening on (http://\S+)", line):
            # It goes on writing, and would wait for who does not read.
            threading.Thread(target=process.stdout.read, name="aimock's output", daemon=True).start()
            return match[1]
    raise RuntimeError(f"aimock did not start: {''.join(told)}")
