"""What a stranger does first: clone, then ``./scripts/run``, with lines in a pipe and without a terminal at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
from harness.daemon import Daemon

CHECKOUT = Path(__file__).parents[2]
PORT = 8642


@pytest.fixture
def clone(tmp_path: Path, lacking: Callable[[str], NoReturn]) -> Path:
    """A fresh clone whose ``.venv`` is taken for made: its programs are those of the checkout's, its stamp its own."""
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        lacking("this is no git checkout, or there is no git")
    venv = CHECKOUT / ".venv"
    if not (venv / "bin" / "hermesd").exists():
        lacking("the checkout has no .venv: ./scripts/test makes it")
    made = tmp_path / "clone"
    command = ["git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", str(CHECKOUT), str(made)]
    subprocess.run(command, check=True, timeout=60)
    (made / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (made / ".venv" / name).symlink_to(venv / name)
    stamp = subprocess.run(
        ["bash", "-c", "source scripts/lib/setup.sh; _fingerprint"],
        cwd=made, env=environment(tmp_path), capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    (made / ".venv" / ".set-up-run").write_text(stamp.stdout.strip())
    return made


def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "user"
    home.mkdir(exist_ok=True)
    return {"HOME": str(home), "PATH": os.environ["PATH"]}


def assert_nothing_left(clone: Path, user: Path) -> None:
    assert list(user.iterdir()) == [], "the user's home is untouched"
    home = clone / ".demo" / "home"
    assert (home / "hermesd" / "state.db").is_file(), "the demo's home is what was used"
    ended = Daemon(home)
    ended.wait_nothing_left(1.0)
    assert [*ended.cgroups(), *ended.sockets()] == []


def test_lines_from_a_pipe_are_answered_and_the_home_of_the_user_is_untouched(clone: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["./scripts/run"], cwd=clone, env=environment(tmp_path), capture_output=True, text=True, timeout=60,
        input='!call time.get_current_time {"timezone": "UTC"}\n',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["timezone"] == "UTC"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(answer["datetime"])).total_seconds()) < 60
    assert_nothing_left(clone, tmp_path / "user")


@contextmanager
def port_in_use(port: int) -> Iterator[None]:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        yield
        return
    yield  # somebody else holds it, which is as good


@pytest.mark.alone("it looks for a free port from 8642 on, as every ./scripts/run does")
def test_without_a_terminal_it_stays_up_on_a_free_port_and_tells_a_command_that_works(
    clone: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    if shutil.which("curl") is None:
        lacking("there is no curl")
    with (
        port_in_use(PORT),
        subprocess.Popen(
            ["./scripts/run"], cwd=clone, env=environment(tmp_path), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as run,
    ):  # fmt: skip
        try:
            assert run.stderr is not None
            said = ""
            while "stop it:" not in said:
                line = run.stderr.readline()
                assert line, said
                said += line
            (command,) = re.findall(r"^  (curl .*\\\n.*\\\n.*)$", said, re.MULTILINE)
            (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", command)
            assert int(port) != PORT
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
            assert "!call" in json.loads(done.stdout)["choices"][0]["message"]["content"], done
            assert run.poll() is None
            run.send_signal(signal.SIGTERM)
            assert run.wait(30) == 0
        finally:
            run.kill()
    assert_nothing_left(clone, tmp_path / "user")
