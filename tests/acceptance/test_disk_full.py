"""A disk that takes no more under a running hermesd: it says so, keeps what it has promised, and recovers by itself."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import openai
import pytest
from harness.daemon import CannotStart
from harness.gate import GATED, Gate
from harness.running import wait_until
from harness.scene import Scene
from openai import OpenAI

KEY = "key-of-this-test"
API = {"api_server": {"enabled": True, "api_key": KEY, "extra": {"port": 0}}}

WRITABLE = 64 * 1024
"""Bytes of a file that hermesd may still write where the limit stands in for a full disk: the journal is larger."""


class FullDisk(Protocol):
    """A disk that can be full, under a hermesd that runs."""

    scene: Scene

    def fill(self) -> None: ...

    def make_room(self) -> None: ...


class SmallDisk:
    """A tmpfs of 4 MB under everything of hermesd's own, filled to the last byte by somebody else."""

    def __init__(self, scene: Scene):
        self.scene = scene

    @property
    def place(self) -> Path:
        return self.scene.daemon.home / "hermesd"

    def mount(self) -> str:
        """Why it cannot be."""
        self.place.mkdir(mode=0o700)
        command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "hermesd-test", str(self.place)]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stderr.strip()

    def fill(self) -> None:
        with (self.place / "ballast").open("wb", buffering=0) as ballast:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while ballast.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        (self.place / "ballast").unlink()


class SmallFiles:
    """The kernel lets hermesd's files grow no further (RLIMIT_FSIZE): for a user who may not mount."""

    def __init__(self, scene: Scene):
        self.scene = scene

    def fill(self) -> None:
        wal = self.scene.daemon.home / "hermesd" / "state.db-wal"
        while wal.stat().st_size <= WRITABLE:
            self.scene.fake.talk("more for the journal", chat="filler")
        self._limit(WRITABLE)

    def make_room(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        _, hard = resource.prlimit(self.scene.daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.scene.daemon.pid, resource.RLIMIT_FSIZE, (size if size >= 0 else hard, hard))


@contextmanager
def small_disk(scene: Scene) -> Iterator[FullDisk]:
    disk = SmallDisk(scene)
    if problem := disk.mount():
        pytest.skip(f"cannot mount a tmpfs: {problem}")
    try:
        yield disk
    finally:
        scene.daemon.__exit__()
        subprocess.run(["umount", str(disk.place)], check=True, timeout=10)


@contextmanager
def small_files(scene: Scene) -> Iterator[FullDisk]:
    yield SmallFiles(scene)


@pytest.fixture(
    params=[
        pytest.param(small_disk, id="full-tmpfs", marks=pytest.mark.root),
        pytest.param(small_files, id="limited-files"),
    ]
)
def disk(request: pytest.FixtureRequest) -> Iterator[FullDisk]:
    if sys.platform != "linux":
        pytest.skip("limits of another process are Linux's prlimit")
    if request.param is small_disk and os.geteuid() != 0:
        pytest.skip("needs root, to mount a tmpfs of 4 MB")
    make: Callable[[Scene], Any] = request.param
    with Scene(ours=GATED, platforms=API) as scene, make(scene) as made:
        scene.start()
        yield made
        scene.daemon.stop()


def journal(scene: Scene) -> dict[str, str]:
    state: dict[str, str] = scene.daemon.json("status")["journal"]
    return state


def started(scene: Scene) -> set[str]:
    messages = scene.daemon.ask("inbox.list", limit=100)["messages"]
    return {row["message_id"] for row in messages if row["state"] == "accepted"}


def base_url(scene: Scene) -> str:
    platforms = scene.daemon.json("status")["platforms"]
    return next(str(platform["describe"]["address"]) for platform in platforms if platform["name"] == "api_server")


def test_nothing_is_accepted_that_cannot_be_kept_and_what_was_accepted_is_answered(disk: FullDisk) -> None:
    scene, fake, daemon = disk.scene, disk.scene.fake, disk.scene.daemon
    api = OpenAI(base_url=base_url(scene), api_key=KEY, max_retries=0)
    for chat in ("a", "b"):
        fake.talk("hello", chat=chat)  # their workers are up
    spinning = fake.say("!spin 600", chat="b")
    gate = Gate(scene.place)
    accepted = [fake.say(text, chat="a") for text in (gate.text, "!sleep 0.1", "third")]
    wait_until(lambda: {spinning, accepted[0]} <= started(scene), what="both are told to the disk as begun")
    first = scene.worker("a")["turn"]
    disk.fill()

    refused = fake.ask("say", text="too late", chat="c", message_id="refused", trusted=True)
    assert (refused["accepted"], refused["code"]) == (False, "journal"), refused
    with pytest.raises(openai.APIStatusError) as answer:
        api.chat.completions.create(model="hermes-agent", messages=[{"role": "user", "content": "hello"}])
    assert answer.value.status_code == 503
    error: Any = answer.value.body
    assert (error["type"], error["code"]) == ("server_error", "journal")
    assert "cannot be kept" in error["message"]

    assert journal(scene)["state"] == "failing"
    assert "SQLITE_" in journal(scene)["reason"]
    status = daemon.ctl("status", "--strict")
    assert status.returncode == 8
    assert "Journal     failing: " in status.stdout
    assert "error: the journal fails" in status.stdout

    # A kill with its stack dump, and the first turn's end, fall into the time without room.
    pid = scene.worker("b")["pid"]
    stopping = subprocess.Popen(
        daemon.command("hermesctl", "stop", scene.session("b")), env=daemon.env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30.0, what="the spinning worker is dead")
    gate.open()
    wait_until(lambda: scene.worker("a")["turn"] not in (first, None), what="the second turn has its place")
    states = {row["message_id"]: row["state"] for row in daemon.json("inbox", "ls")["messages"]}
    assert "refused" not in states
    assert [states[message] for message in accepted] == ["accepted", "queued", "queued"]
    assert not fake.shown(chat="a", reply_to=accepted[0]), "an answer was shown that no disk has"

    disk.make_room()
    wait_until(lambda: journal(scene)["state"] == "ok", what="the journal is well again")
    texts = [fake.final(message, chat="a")["text"] for message in accepted]
    assert texts[:2] == [gate.ANSWER, "Slept for 0.1 s."]
    assert texts[2].startswith("You said: third")
    assert fake.final(spinning, chat="b")["text"] == "Interrupted."
    assert stopping.wait(30) == 0
    assert fake.ask("unconfirmed")["message_ids"] == ["refused"]
    assert fake.ask("redeliver")["new"] == 1, "the platform brings again what was not confirmed"
    assert fake.final("refused", chat="c")["text"].startswith("You said: too late")
    assert fake.talk("hello again", chat="b").startswith("You said: hello again")
    for chat in "abc":
        finals = [shown["reply_to"] for shown in fake.shown(chat=chat) if shown["final"]]
        assert len(finals) == len(set(finals)), "answered twice"
    assert daemon.json("inbox", "ls", "--state", "accepted")["messages"] == []


@pytest.mark.root
def test_a_start_on_a_full_disk_says_so_and_the_next_one_with_room_loses_nothing() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a tmpfs of 4 MB")
    with Scene(ours={"workers": {"on_crash": "retry"}, "adopt_timeout": "1s"}) as scene, small_disk(scene) as disk:
        disk.fill()
        with pytest.raises(CannotStart, match=r"No space left on device|database or disk is full"):
            scene.start()
        disk.make_room()
        scene.start()
        message = scene.fake.say("!sleep 0.5", chat="a")
        scene.daemon.kill()
        scene.fake.close()
        scene.daemon.wait_nothing_left(10.0)
        disk.fill()
        with pytest.raises(CannotStart, match=r"No space left on device|database or disk is full"):
            scene.start()
        disk.make_room()
        scene.start()
        assert scene.fake.final(message, chat="a")["text"] == "Slept for 0.5 s."
        scene.daemon.stop()
