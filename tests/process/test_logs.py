"""What agents log, print and fork on the way to hermesd's log, with real processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.running import wait_until
from harness.scene import PROGRAMS, Scene

RECORDS = 10_000


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene() as made:
        made.configure_ours(agent="loud:make", agent_path=[str(PROGRAMS)])
        yield made.start()


def lines(scene: Scene) -> list[dict[str, Any]]:
    """Every line of hermesd's log, oldest first."""
    directory = scene.daemon.home / "hermesd" / "logs"
    files = sorted(
        directory.glob("hermesd.log*"), key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0
    )
    return [json.loads(line) for path in files for line in whole_lines(path)]


def whole_lines(path: Path) -> list[str]:
    """None of a file that is just being renamed, and without a last line that is just being written."""
    try:
        return path.read_text("utf-8").rpartition("\n")[0].splitlines()
    except FileNotFoundError:
        return []


def wait_for(scene: Scene, count: int, logger: str, chat: str, seconds: float = 60.0) -> list[dict[str, Any]]:
    until = time.monotonic() + seconds
    while True:
        found = [
            line for line in lines(scene) if line["logger"] == logger and line.get("session") == scene.session(chat)
        ]
        if len(found) >= count or time.monotonic() > until:
            return found
        time.sleep(0.1)


def test_ten_thousand_records_of_forked_children_arrive_once_each(scene: Scene) -> None:
    assert scene.fake.talk(f"children 4 {RECORDS}", chat="many") == "exit codes [0]"
    found = wait_for(scene, RECORDS, "loud.child", "many")
    assert sorted(int(line["msg"].split()[1]) for line in found) == list(range(RECORDS))
    worker = scene.worker("many")
    assert len({line["pid"] for line in found}) == 4
    assert worker["pid"] not in {line["pid"] for line in found}
    assert {line["worker"] for line in found} == {worker["worker"]}
    assert all(line["turn"] for line in found[:100])


def test_a_child_killed_while_it_logs_takes_nobodys_records_with_it(scene: Scene) -> None:
    for number in range(3):
        chat = f"killed-{number}"
        assert scene.fake.talk("killed 500", chat=chat) == "exit codes [0]"
        assert scene.fake.talk("hello", chat=chat) == "heard hello"
        found = wait_for(scene, 500, "loud.child", chat)
        assert sorted(int(line["msg"].split()[1]) for line in found) == list(range(500))
        assert wait_for(scene, 1, "loud", chat)[-1]["msg"] == "the worker itself logs on"
        assert wait_for(scene, 1, "loud.endless", chat)
        assert scene.fake.talk("say still here", chat="another") == "said"
        assert wait_for(scene, 1, "loud", "another")[-1]["msg"].endswith("still here")


def test_children_that_have_ended_cost_their_worker_nothing(scene: Scene) -> None:
    scene.fake.talk("children 2 2", chat="ended")
    pid = scene.worker("ended")["pid"]

    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    before = held()
    for _ in range(5):
        assert scene.fake.talk("children 6 6", chat="ended") == "exit codes [0]"
    until = time.monotonic() + 60.0
    while held()[1] > before[1]:
        assert time.monotonic() < until, (before, held())
        time.sleep(0.05)
    scene.fake.talk("hello", chat="ended")
    assert held()[0] <= before[0] + 2  # of the last generation, at most


def test_the_child_of_a_child_is_heard_too(scene: Scene) -> None:
    assert scene.fake.talk("nested", chat="nested") == "exit code 0"
    found = wait_for(scene, 4, "loud.child", "nested")
    assert sorted(line["msg"] for line in found) == ["from the child", "record 0", "record 1", "record 2"]
    assert len({line["pid"] for line in found}) == 2


def test_each_session_has_a_file_of_its_own_and_hermesctl_reads_it(scene: Scene) -> None:
    for word in ("one", "two"):
        scene.fake.talk(f"say {word}", chat="file")
    wait_for(scene, 2, "loud", "file")
    (path,) = (scene.daemon.home / "hermesd" / "logs" / "sessions").glob("*dm_file-*.log")
    wait_until(lambda: len(whole_lines(path)) == 2, what="both lines")  # it is written after the log of all
    assert [json.loads(line)["msg"] for line in whole_lines(path)] == ["one", "two"]
    for name in (scene.session("file"), "file", "dm:file"):
        done = scene.daemon.ctl("--json", "logs", "--session", name)
        assert [json.loads(line)["msg"] for line in done.stdout.splitlines()] == ["one", "two"], done


def test_what_repeats_is_folded_and_what_is_secret_blackened(scene: Scene) -> None:
    token = "Bearer abcdef0123456789abcdef"
    for _ in range(4):
        scene.fake.talk(f"say Authorization: {token}", chat="again")
    scene.fake.talk("say over", chat="again")
    wait_for(scene, 3, "loud", "again")
    texts = [line["msg"] for line in lines(scene) if line.get("session") == scene.session("again")]
    said = "Authorization: Bearer [redacted]"
    assert texts == [said, f"repeated 3 times: {said}", "over"]


def test_what_hermesd_and_its_keeper_say_outside_of_logging_is_capped_too(scene: Scene) -> None:
    directory = scene.daemon.home / "hermesd" / "logs"
    assert (directory / "start.log").exists()
    for name in ("start.log", "keeper.log"):
        # As their own descriptors do; hermesd's standard error is the first.
        with (directory / name).open("ab", buffering=0) as stream:
            stream.write(b"a traceback of a library\n" * 100_000)
    until = time.monotonic() + 60.0
    while any((directory / name).stat().st_size > 1 << 20 for name in ("start.log", "keeper.log")):
        assert time.monotonic() < until, "a log was not cut"
        time.sleep(0.05)
    for name in ("start.log.1", "keeper.log.1"):
        assert (directory / name).stat().st_size == 1 << 20
