"""Sessions by an ending of their key, in every verb that takes one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness.running import TIME, wait_until
from harness.scene import Scene

LOCAL = "agent:main:local:dm:anna"
ONCE = ("sessions show", "send --session {} hi", "drain --session {}", "undrain --session {}",
        "inbox ls --session {}", "outbox ls --session {}", "mcp restart time --session {}", "logs --session {}",
        "stop {}", "restart {}", "sessions reset {}")  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(servers={"time": TIME}) as made:
        made.start()
        for chat in ("anna", "ben"):
            made.fake.talk("!fail", chat=chat)
        assert made.daemon.ctl("chat", "anna", input="!fail\n").returncode == 1
        yield made


def verb(line: str, name: str) -> list[str]:
    return (line if "{}" in line else f"{line} {{}}").format(name).split()


@pytest.mark.parametrize("line", ONCE)
def test_a_verb_takes_an_ending_that_one_session_has(scene: Scene, line: str) -> None:
    for name in ("ben", "dm:ben", scene.session("ben")):
        done = scene.daemon.ctl(*verb(line, name))
        assert done.returncode == 0, (name, done)
    # Which of these tests share a scene depends on how they are spread over processes.
    assert scene.daemon.ctl("undrain", "--session", "ben").returncode == 0


@pytest.mark.parametrize("line", ONCE)
def test_a_verb_refuses_an_ending_that_two_sessions_have_and_names_them(scene: Scene, line: str) -> None:
    before = scene.daemon.json("sessions", "list")
    drained = scene.daemon.ask("status")["drain"]["sessions"]
    done = scene.daemon.ctl(*verb(line, "anna"))
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr == (
        f"error: anna could be 2 sessions: {scene.session('anna')}, {LOCAL}\n  fix: name more of the key\n"
    )
    assert scene.daemon.json("sessions", "list") == before
    assert scene.daemon.ask("status")["drain"]["sessions"] == drained


@pytest.mark.parametrize("line", ONCE)
def test_a_verb_names_what_may_be_meant_by_a_name_that_no_session_has(scene: Scene, line: str) -> None:
    done = scene.daemon.ctl(*verb(line, "fake:dm:bne"))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert f"did you mean {scene.session('ben')}" in done.stderr
    unlike = scene.daemon.ctl(*verb(line, "qqqqq"))
    assert unlike.returncode == 1
    assert "sessions list" in unlike.stderr


def test_one_ambiguous_name_of_several_does_nothing_to_any(scene: Scene) -> None:
    scene.fake.talk("hello", chat="ben")
    pid = scene.worker("ben")["pid"]
    done = scene.daemon.ctl("stop", "--yes", "ben", "anna")
    assert done.returncode == 2
    assert scene.worker("ben")["pid"] == pid
    mixed = scene.daemon.ctl("--json", "stop", "--yes", "ben", "dm:ben", "nobody")
    assert mixed.returncode == 8
    rows = json.loads(mixed.stdout)["sessions"]
    assert [(row["session"], row["outcome"]) for row in rows] == [
        (scene.session("ben"), "done"), ("nobody", "not_found"),
    ]  # fmt: skip


def test_logs_are_of_the_session_that_is_meant(scene: Scene) -> None:
    def lines() -> list[str]:
        return scene.daemon.ctl("--json", "logs", "--session", "local:dm:anna").stdout.splitlines()

    # What a worker logs comes beside its answers.
    assert {json.loads(line)["session"] for line in wait_until(lines, what="a line")} == {LOCAL}
