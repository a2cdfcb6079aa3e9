"""``hermesctl top`` and ``chat`` in a real terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.control import REST, SPIN, ControlHost, Tmux


def test_top_is_live_obeys_its_keys_and_leaves_the_screen_as_it_was(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("top", "--interval", "0.3")
    shown = terminal.wait_for(rf"^{SPIN} .* \d\d\.\d ")
    assert "before" not in shown
    assert shown.index(SPIN) < shown.index(REST), "the busiest comes first"
    for key, said in (("M", "by mem;"), ("T", "by cpu-time;"), ("Q", "by queue;"), ("P", "by cpu;")):
        terminal.keys(key)
        terminal.wait_for(said)
    terminal.keys("t")
    terminal.wait_for(rf"├─ {SPIN}")
    terminal.keys("?")
    terminal.wait_for("q      quit")
    terminal.keys("Space")
    terminal.wait_for("paused, by cpu")
    terminal.keys("q")
    shown = terminal.wait_for("after 0")
    assert "before" in shown
    assert SPIN not in shown
    terminal.wait_for("^.?icanon")
    assert "-icanon" not in terminal.run("capture-pane", "-p")


def test_top_restores_the_terminal_after_ctrl_c(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("top")
    terminal.wait_for(SPIN)
    terminal.keys("C-c")
    shown = terminal.wait_for("after 130")
    assert SPIN not in shown
    assert "-icanon" not in terminal.wait_for("icanon")


def test_top_stays_and_says_so_when_hermesd_ends(tmux: Callable[..., Tmux], host: ControlHost) -> None:
    terminal = tmux("top", "--interval", "0.2")
    terminal.wait_for(SPIN)
    host.end()
    shown = terminal.wait_for("hermesd is stopped")
    assert SPIN in shown
    terminal.keys("q")
    terminal.wait_for("after 0")


def test_chat_in_a_terminal_streams_and_ends_with_ctrl_d(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("chat", "work")
    terminal.wait_for("attached to agent:main:local:dm:work")
    terminal.keys("later", "Enter")
    terminal.keys("hello there", "Enter")
    shown = terminal.wait_for("^later\n> ?$")
    assert re.search(r"^hello there\n", shown, re.MULTILINE)
    terminal.keys("close", "Enter")
    terminal.wait_for("after 0")
    assert "-icanon" not in terminal.wait_for("icanon")
