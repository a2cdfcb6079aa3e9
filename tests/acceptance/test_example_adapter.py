"""The worked example of ``docs/adapters.md``, installed beside hermesd as its package would be."""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.ports import free_port
from harness.running import wait_until
from harness.scene import Scene

EXAMPLE = Path(__file__).parents[2] / "docs" / "example_adapter"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of installed packages with the example in it: pip itself would need a network for the build."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    (tmp_path / "hermesd_netcat.py").write_text((EXAMPLE / "hermesd_netcat.py").read_text())
    info = tmp_path / f"hermesd_netcat-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["hermesd.adapters"].items()
    (info / "entry_points.txt").write_text("[hermesd.adapters]\n" + "".join(f"{k} = {v}\n" for k, v in points))
    return tmp_path


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def scene(site: Path, port: int) -> Iterator[Scene]:
    platforms = {"netcat": {"enabled": True, "extra": {"port": port}}}
    with Scene(platforms=platforms, env={"PYTHONPATH": str(site), "NETCAT_ALLOWED_USERS": "anna"}) as made:
        yield made


def state(scene: Scene, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = scene.daemon.ask("platforms.list")["platforms"]
    return next(row for row in rows if row["name"] == name)


class Person:
    def __init__(self, port: int, name: str):
        self._socket = socket.create_connection(("127.0.0.1", port), 60.0)
        self._lines = self._socket.makefile("rw", encoding="utf-8")
        self.write(name)

    def write(self, line: str) -> None:
        self._lines.write(line + "\n")
        self._lines.flush()

    def read(self) -> str:
        return self._lines.readline().rstrip("\n")

    def leave(self) -> None:
        self._lines.close()
        self._socket.close()


def test_a_line_is_confirmed_and_answered_also_when_it_comes_twice(scene: Scene, port: int) -> None:
    scene.start()
    anna = Person(port, "anna")
    anna.write("1 hello")
    assert anna.read() == "ok 1"
    assert anna.read() == "> 1 You said: hello"
    while not anna.read().startswith("> 1 I am the demo agent"):
        pass
    anna.write("1 hello")
    assert anna.read() == "ok 1"
    anna.write("2 !sleep 0")
    assert anna.read() == "ok 2"
    assert anna.read().startswith("> 2 ")
    anna.leave()


def test_an_answer_waits_for_who_is_away_also_over_the_death_of_hermesd(scene: Scene, port: int) -> None:
    scene.start()
    anna = Person(port, "anna")
    anna.write("1 !sleep 1")
    assert anna.read() == "ok 1"
    anna.leave()
    scene.daemon.kill()
    scene.start()
    anna = Person(port, "anna")
    assert anna.read().startswith("> 1 ")
    anna.leave()


def test_a_stranger_starts_no_worker(scene: Scene, port: int) -> None:
    scene.start()
    eve = Person(port, "eve")
    eve.write("1 hello")
    assert eve.read() == "ok 1"
    assert [row for row in scene.daemon.workers() if "netcat" in (row["session"] or "")] == []
    eve.leave()


def test_a_wrong_setting_and_a_port_in_use_concern_this_platform_only(scene: Scene, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        scene.start()
        assert state(scene, "fake")["state"] == "online"
        # Between two tries it is connecting for a moment.
        row = wait_until(lambda: (row := state(scene, "netcat"))["state"] == "backing_off" and row)
    assert f"port {port}" in row["detail"]
