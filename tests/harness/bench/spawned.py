"""Child processes of multiprocessing that end with their measurement."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

from .peers import MODULES

SPAWN = "spawn"
FORKSERVER = "forkserver"


def context(method: str) -> Any:
    found = multiprocessing.get_context(method)
    if method == FORKSERVER:
        # Taken at its server's start, which is the first child's.
        found.set_forkserver_preload([*MODULES, "harness.bench.peers"])
    return found


@contextlib.contextmanager
def process(method: str, function: Callable[..., None], *args: object) -> Iterator[BaseProcess]:
    child: BaseProcess = context(method).Process(target=function, args=args, daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()
        child.close()
