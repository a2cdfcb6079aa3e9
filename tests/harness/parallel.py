"""The suite on several processes at once (pytest-xdist): how many, in which order, and who has the machine for itself.

`tests/conftest.py` takes the hooks of pytest's from here.
"""

from __future__ import annotations

import fcntl
import functools
import math
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

PER_CORE = 1.5
"""Tests of real processes wait half of their time, for one to start or to end; more at once only wait for a core."""
MOST = 8


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For ``-n auto``: 0, which is this process, unless whole folders are asked for; a few tests are done sooner so."""
    chosen = any(config.getoption(name, False) for name in ("keyword", "markexpr", "lf", "stepwise"))
    if chosen or not all(Path(argument).is_dir() for argument in config.args):
        return 0
    return min(math.ceil(PER_CORE * len(os.sched_getaffinity(0))), MOST)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByScene(config, log)


class ByScene(LoadScopeScheduling):
    """Every test to whoever is free, but a module whose tests share what is made once for them to one process.

    Those with the most tests go first, and then single ones in the order of `pytest_collection_modifyitems`.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(str(self.config.rootpath / module)) else nodeid


@functools.cache
def _shares(module: str) -> bool:
    """Whether its tests belong together. Where some want the machine for themselves they must come when they may."""
    text = Path(module).read_text("utf-8")
    return 'scope="module"' in text and "mark.alone" not in text


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow ones first, so that no process works on one when the others are done; those for themselves last."""
    if _is_one_of_several(config):
        items.sort(key=lambda item: (_wants_the_machine(item), item.get_closest_marker("slow") is None))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test with the mark ``alone`` begins when every other has ended, and no other begins before it has.

    Outermost, so that the wait is no part of the time that pytest-timeout allows the test.
    """
    if not _is_one_of_several(item.config):
        return (yield)
    with open(__file__, "rb") as machine:
        fcntl.flock(machine, fcntl.LOCK_EX if _wants_the_machine(item) else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            # Closing would not do: a child of the test that was forked without exec has this open too.
            fcntl.flock(machine, fcntl.LOCK_UN)


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _wants_the_machine(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None
