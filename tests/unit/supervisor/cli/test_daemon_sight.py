"""What is made of a hermesd that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.supervisor.cli import daemon as daemon_module
from hermesd.supervisor.cli.daemon import Daemon
from hermesd.supervisor.cli.exits import Exit
from hermesd.supervisor.cli.options import Options
from hermesd.supervisor.control.errors import NoAnswer, NobodyThere, Unreachable
from hermesd.supervisor.instance.lock import Standing
from hermesd.supervisor.instance.pidfile import own_record


@pytest.mark.parametrize(
    ("letter", "error", "state", "status"),
    [
        ("Z", NoAnswer("no answer"), "dead", Exit.DEAD),
        ("Z", NobodyThere("nobody"), "dead", Exit.DEAD),
        ("T", NoAnswer("no answer"), "unresponsive", Exit.NO_ANSWER),
        ("S", NobodyThere("nobody"), "starting", Exit.NO_ANSWER),
    ],
)
def test_its_process_decides(
    letter: str, error: Unreachable, state: str, status: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(Options(home=tmp_path))
    monkeypatch.setattr(daemon_module, "process_state", lambda pid: letter)
    monkeypatch.setattr(Daemon, "describe", lambda self: Standing("running", own_record(self.paths.control_socket)))
    sight = daemon.sight(error)
    assert (sight.state, sight.status, sight.process_state) == (state, status, letter)
