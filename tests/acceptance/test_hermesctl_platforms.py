"""``hermesctl platforms`` on a running hermesd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.running import wait_until
from harness.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene() as made:
        yield made.start()


def row(scene: Scene, name: str = "fake") -> dict[str, Any]:
    document = scene.daemon.json("platforms", "list")
    assert document["schema"] == 1
    found: dict[str, Any] = next(row for row in document["platforms"] if row["name"] == name)
    return found


def test_each_platform_has_a_row(scene: Scene) -> None:
    assert (row(scene)["state"], row(scene)["connects"], row(scene)["next_try_at"]) == ("online", 1, None)
    text = scene.daemon.ctl("platforms", "list")
    assert (text.returncode, text.stderr) == (0, "")
    head, *lines = text.stdout.splitlines()
    assert head.split()[:3] == ["PLATFORM", "STATE", "FOR"]
    names = {row["name"] for row in scene.daemon.json("platforms", "list")["platforms"]}
    assert {line.split()[0] for line in lines} == names


def test_a_paused_one_stays_so_over_a_restart_and_what_waits_is_sent_when_it_is_resumed(scene: Scene) -> None:
    message = scene.fake.say("!sleep 2", chat="paused")
    paused = scene.daemon.ctl("platforms", "pause", "fake")
    assert (paused.returncode, paused.stdout) == (0, "fake is paused\n")
    scene.fake.close()
    assert scene.daemon.ctl("restart", "--supervisor").returncode == 0
    wait_until(lambda: scene.daemon.ctl("status").returncode == 0, what="hermesd is up again")
    assert row(scene)["state"] == "paused"
    resumed = scene.daemon.ctl("platforms", "resume", "fake")
    assert (resumed.returncode, resumed.stdout) == (0, "fake is online\n")
    assert scene.fake.final(message, chat="paused")["text"]


def test_a_reconnect_is_a_new_connection_and_costs_nothing(scene: Scene) -> None:
    before = row(scene)["connects"]
    message = scene.fake.say("!sleep 1", chat="anew")
    assert scene.daemon.ctl("platforms", "reconnect", "fake").returncode == 0
    scene.fake.close()
    assert row(scene)["connects"] == before + 1
    assert scene.fake.final(message, chat="anew")["text"]


def test_restarts_of_workers_reconnect_nothing(scene: Scene) -> None:
    before = row(scene)["connects"]
    for _ in range(3):
        scene.fake.talk("hello", chat="calm")
        assert scene.daemon.ctl("restart", scene.session("calm")).returncode == 0
    assert row(scene)["connects"] == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("pause", "fak"), 1, "did you mean fake?"),
        (("pause", "local"), 2, "cannot be paused"),
        (("reconnect", "local"), 2, "no connection"),
        (("resume",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_is_said(scene: Scene, words: tuple[str, ...], status: int, said: str) -> None:
    done = scene.daemon.ctl("platforms", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_missing_libraries_make_their_platforms_unavailable_and_nothing_else(tmp_path: Path) -> None:
    for library in ("discord", "telegram", "mautrix"):
        (tmp_path / f"{library}.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{library}'\", name='{library}')\n"
        )
    lacking = {
        "discord": {"enabled": True, "token": "t"},
        "telegram": {"enabled": True, "token": "1:t"},
        "matrix": {"enabled": True, "token": "t", "extra": {"homeserver": "http://127.0.0.1:9"}},
    }
    with Scene(platforms=lacking, env={"PYTHONPATH": str(tmp_path)}) as scene:
        scene.start()
        rows = {row["name"]: row for row in scene.daemon.json("platforms", "list")["platforms"]}
        doctor = scene.daemon.ctl("doctor").stdout
        for name in lacking:
            install = f"install what it needs with: pip install 'hermesd[{name}]'"
            assert (name, rows[name]["state"]) == (name, "unavailable")
            assert "No module named" in rows[name]["detail"]
            assert rows[name]["detail"].endswith(install)
            assert install in doctor
        assert rows["fake"]["state"] == "online"
        assert "hello" in scene.fake.talk("hello", chat="unaffected")
