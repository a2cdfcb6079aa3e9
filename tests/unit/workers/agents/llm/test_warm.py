from __future__ import annotations

import logging
import os

import pytest

from hermesd.workers.agents.llm.warm import warm


def test_it_works_with_this_sdk_and_leaves_no_thread_and_no_descriptor(caplog: pytest.LogCaptureFixture) -> None:
    """A thread would forbid every later fork of the keeper."""
    before = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    with caplog.at_level(logging.WARNING):
        warm()
    assert caplog.records == []
    assert (len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))) == before
