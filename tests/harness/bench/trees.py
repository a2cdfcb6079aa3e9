"""Hostile trees of 100 processes in containers, as the tests of the containments have them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from harness.containment import grounds
from harness.scene import TESTS

SIZE = 100


def strategies() -> list[str]:
    """The containments that this user can have here, strongest first."""
    return [ground.containment for ground in grounds() if not ground.unprivileged]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("trees_harness", TESTS / "process" / "trees" / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def keepers() -> Iterator[dict[str, Any]]:
    """One keeper for each of the strategies."""
    with contextlib.ExitStack() as stack:
        harness = _load()
        yield {name: stack.enter_context(harness.run_keeper(f"{name}-self")) for name in strategies()}


@contextlib.contextmanager
def hostile(keeper: Any) -> Iterator[tuple[Any, int]]:
    """A tree in a container of its own, complete: the oracle that counts its living, and the pid of its root.

    What is left of it in the end goes with its container.
    """
    oracle = _load().Oracle()
    try:
        born = keeper.tree("bench", "hostile", oracle)
        oracle.wait_alive(SIZE)
        try:
            yield oracle, born["pid"]
        finally:
            if "bench" in keeper.usage()["workers"]:
                keeper.kill(worker="bench")
    finally:
        oracle.close()
