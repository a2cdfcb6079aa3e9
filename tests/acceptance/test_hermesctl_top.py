"""`hermesctl top` in a real terminal."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from harness.daemon import Daemon
from harness.running import TIME, running, wait_until

BUSY = "agent:main:local:dm:busy"


class Tmux:
    """A terminal of 150 by 40 with a shell in it, and a server of its own."""

    def __init__(self, env: dict[str, str]):
        self._name = f"hermesd-{uuid.uuid4().hex[:8]}"
        self._env = env
        self._run("new-session", "-d", "-x", "150", "-y", "40", "env PS1='$ ' sh")
        self.wait_for(lambda picture: picture.startswith("$"))

    def _run(self, *args: str) -> str:
        command = ["tmux", "-L", self._name, "-f", "/dev/null", *args]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def picture(self) -> str:
        return self._run("capture-pane", "-p")

    def alternate(self) -> bool:
        return self._run("display-message", "-p", "#{alternate_on}").strip() == "1"

    def wait_for(self, condition: Callable[[str], bool], seconds: float = 15.0) -> str:
        last = ""

        def look() -> bool:
            nonlocal last
            last = self.picture()
            return condition(last)

        try:
            wait_until(look, seconds)
        except AssertionError as error:
            raise AssertionError(f"the picture is still\n{last}") from error
        return last

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running({"mcp_servers": {"time": TIME}}) as made:
        made.ctl("chat", "calm", input='!call time.get_current_time {"timezone": "UTC"}\n')
        made.ctl("chat", "fat", input="!leak 200\n")
        yield made


@pytest.fixture
def terminal(daemon: Daemon, lacking: Callable[[str], NoReturn]) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        lacking("no tmux here")
    made = Tmux({**daemon.env, "TERM": "screen-256color", "LANG": "C.UTF-8"})
    made.type(" ".join(daemon.command("hermesctl", "top", "--interval", "0.3")), "Enter")
    yield made
    made.close()


def words_of(picture: str, name: str) -> list[str]:
    """The line with this name; a picture may be half drawn."""
    return next((line.split() for line in picture.splitlines() if name in line), [])


def order(picture: str) -> list[str]:
    """The sessions from top to bottom."""
    words = [line.split()[0].lstrip("└├─│") for line in picture.splitlines() if line.split()]
    return [word.removeprefix("agent:main:local:dm:") for word in words if word.startswith("agent:main:local:dm:")]


def test_the_busiest_comes_first_and_keys_change_the_order(daemon: Daemon, terminal: Tmux) -> None:
    with subprocess.Popen(
        daemon.command("hermesctl", "chat", "busy"), env=daemon.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as chat:  # fmt: skip
        try:
            assert chat.stdin is not None
            chat.stdin.write("!spin 600\n")
            chat.stdin.flush()
            terminal.wait_for(lambda picture: order(picture)[:1] == ["busy"])
            assert terminal.alternate()
            terminal.type("M")
            terminal.wait_for(lambda picture: order(picture)[:1] == ["fat"])
            terminal.type("P")
            terminal.wait_for(lambda picture: order(picture)[:1] == ["busy"])
            pid = str(daemon.worker_of(BUSY)["pid"])
            terminal.wait_for(lambda picture: pid in words_of(picture, "dm:busy"))
        finally:
            daemon.ctl("stop", BUSY)
            chat.kill()


def test_t_shows_the_servers_below_their_worker_and_hides_them_again(terminal: Tmux) -> None:
    terminal.wait_for(lambda picture: "dm:calm" in picture)
    assert "mcp time" not in terminal.picture()
    terminal.type("t")
    terminal.wait_for(lambda picture: "mcp time" in picture)
    terminal.type("t")
    terminal.wait_for(lambda picture: "mcp time" not in picture and "dm:calm" in picture)


@pytest.mark.parametrize("key", ["q", "C-c"])
def test_its_end_gives_the_screen_and_the_keyboard_back(terminal: Tmux, key: str) -> None:
    terminal.wait_for(lambda picture: "dm:calm" in picture)
    terminal.type(key)
    terminal.wait_for(lambda picture: "dm:calm" not in picture and picture.rstrip().endswith("$"))
    assert not terminal.alternate()
    terminal.type("echo typed-$((6*7))", "Enter")
    # The echo of the line proves that the terminal is in its ordinary mode again.
    terminal.wait_for(lambda picture: "echo typed-$((6*7))" in picture and "\ntyped-42" in picture)


def test_it_says_so_when_hermesd_goes_away_and_shows_it_again_when_it_is_back(
    lacking: Callable[[str], NoReturn],
) -> None:
    if shutil.which("tmux") is None:
        lacking("no tmux here")
    with running({}) as daemon:
        daemon.ctl("chat", "calm", input="hello\n")
        terminal = Tmux({**daemon.env, "TERM": "screen-256color", "LANG": "C.UTF-8"})
        try:
            terminal.type(" ".join(daemon.command("hermesctl", "top", "--interval", "0.3")), "Enter")
            terminal.wait_for(lambda picture: "dm:calm" in picture)
            daemon.stop()
            terminal.wait_for(lambda picture: "hermesd is stopped" in picture)
            daemon.start()
            terminal.wait_for(lambda picture: "hermesd is stopped" not in picture and str(daemon.pid) in picture)
            terminal.type("q")
            terminal.wait_for(lambda picture: picture.rstrip().endswith("$"))
        finally:
            terminal.close()
