"""The process that answers, ended with each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from harness.control import ControlHost, Tmux


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., ControlHost]]:
    hosts: list[ControlHost] = []

    def start(*flags: str) -> ControlHost:
        hosts.append(ControlHost(home, *flags))
        return hosts[-1]

    yield start
    for host in hosts:
        host.end()
        host.paths.clear_sockets(remove=True)  # of those that were killed


@pytest.fixture
def host(start: Callable[..., ControlHost]) -> ControlHost:
    return start()


@pytest.fixture
def tmux(host: ControlHost, tmp_path: Path, lacking: Callable[[str], NoReturn]) -> Iterator[Callable[..., Tmux]]:
    if shutil.which("tmux") is None:
        lacking("there is no tmux here")
    open_ones: list[Tmux] = []

    def start(*args: str) -> Tmux:
        open_ones.append(Tmux(tmp_path, host.command(*args)))
        return open_ones[-1]

    yield start
    for terminal in open_ones:
        terminal.close()
