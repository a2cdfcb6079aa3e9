"""A directory of the measurement's own, short enough for sockets, gone afterwards."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hd-bench-") as name:
        yield Path(name)
