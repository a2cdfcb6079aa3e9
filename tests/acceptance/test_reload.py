"""The configuration of a running hermesd is changed: by hermesctl reload and by SIGHUP."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from harness.daemon import Daemon
from harness.running import TIME, wait_until
from harness.scene import Scene

TELLING = """
import json, os
from hermesd.workers.agents import demo

class Telling:
    def __init__(self, session):
        self.session, self.demo = session, demo.make(session)

    async def turn(self, turn, out):
        if turn.text == "what have you?":
            return json.dumps([self.session.settings, os.environ.get("MY_PLACE")])
        return await self.demo.turn(turn, out)

def make(session):
    return Telling(session)
"""
"""The demo agent, which also tells what it was given."""

BASE: dict[str, Any] = {"workers": {"max_turns": 2, "spare": 1}, "agent_settings": {"who": "first"}}


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    with Scene(ours=BASE) as scene:
        (scene.place / "telling.py").write_text(TELLING)
        scene.configure_ours(agent="telling:make", agent_path=[str(scene.place)])
        yield scene.start()


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    """With the configuration of its start, before the test and after it."""
    path = shared.daemon.home / "config.yaml"
    before = path.read_text()
    yield shared
    path.write_text(before)
    (shared.daemon.home / ".env").unlink(missing_ok=True)
    assert shared.daemon.ctl("reload").returncode == 0


def change(daemon: Daemon, **ours: Any) -> None:
    path = daemon.home / "config.yaml"
    config = json.loads(path.read_text())
    workers = {**config["hermesd"].get("workers", {}), **ours.pop("workers", {})}
    servers = ours.pop("mcp_servers", {})
    config["hermesd"] |= {**ours, "workers": workers}
    config["mcp_servers"] |= servers
    path.write_text(json.dumps(config, indent=1))


def told(scene: Scene, chat: str) -> Any:
    return json.loads(scene.fake.talk("what have you?", chat=chat))


def log_of(daemon: Daemon) -> str:
    return (daemon.home / "hermesd/logs/hermesd.log").read_text()


def test_nothing_changed_is_said(scene: Scene) -> None:
    done = scene.daemon.ctl("reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing has changed\n", "")
    document = scene.daemon.json("reload")
    assert (document["schema"], document["unchanged"], document["applied"], document["needs_restart"]) == (
        1, True, [], [],
    )  # fmt: skip


def test_keys_that_can_apply_do_and_the_others_are_named_until_the_restart(scene: Scene) -> None:
    daemon = scene.daemon
    change(daemon, workers={"max": 7, "max_turns": 5, "start_by": "exec"}, agent="os:path", busy="steer")
    plan = daemon.json("reload", "--dry-run")
    assert plan["dry_run"]
    assert daemon.ask("status")["workers"]["max"] == 64
    document = daemon.json("reload")
    assert document == {**plan, "dry_run": False}
    assert document["applied"] == ["hermesd.workers.max", "hermesd.workers.max_turns", "hermesd.busy"]
    assert document["needs_restart"] == ["hermesd.agent", "hermesd.workers.start_by"]
    assert not document["unchanged"]
    workers = daemon.ask("status")["workers"]
    assert (workers["max"], workers["max_turns"]) == (7, 5)
    again = daemon.ctl("reload")
    assert again.stdout.splitlines() == [
        "needs a restart of hermesd: hermesd.agent", "needs a restart of hermesd: hermesd.workers.start_by",
    ]  # fmt: skip
    assert "You said: hello" in scene.fake.talk("hello", chat="a"), "with the agent of the start"


def test_new_servers_settings_and_variables_reach_new_workers_and_spares(scene: Scene) -> None:
    daemon = scene.daemon
    assert told(scene, "old") == [{"who": "first"}, None]
    change(daemon, agent_settings={"who": "second"}, workers={"env": ["MY_*"]}, mcp_servers={"time": TIME})
    (daemon.home / ".env").write_text("MY_PLACE=here\n")
    document = daemon.json("reload")
    assert document["new_workers"] == ["hermesd.agent_settings", "hermesd.workers.env", "environment.MY_PLACE"]
    assert document["next_idle"] == ["mcp_servers.time"]
    assert document["applied"] == [*document["new_workers"], *document["next_idle"]]
    assert told(scene, "new") == [{"who": "second"}, "here"]
    assert told(scene, "old") == [{"who": "first"}, None]
    assert "timezone" in scene.fake.talk('!call time.get_current_time {"timezone": "UTC"}', chat="new")
    assert daemon.ctl("restart", scene.session("old")).returncode == 0
    assert told(scene, "old") == [{"who": "second"}, "here"]


def test_who_may_write_changes_with_the_env_file(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    fake.ask("say", text="let me in", chat="door", user="carla", trusted=False)
    (daemon.home / ".env").write_text("FAKE_ALLOWED_USERS=carla\n")
    assert daemon.json("reload")["applied"] == ["FAKE_ALLOWED_USERS"]
    answer = fake.ask("say", text="it is me", chat="door", user="carla", trusted=False)
    assert "it is me" in fake.final(answer["message_id"], chat="door")["text"]
    assert not [shown for shown in fake.shown(chat="door") if "let me in" in shown["text"]]


def test_a_shorter_idle_timeout_applies_to_workers_that_are_idle_already(scene: Scene) -> None:
    scene.fake.talk("hello", chat="sleepy")
    change(scene.daemon, workers={"idle_timeout": "100ms"})
    assert scene.daemon.ctl("reload").returncode == 0
    wait_until(
        lambda: not any(row["session"] == scene.session("sleepy") for row in scene.daemon.workers()), 60.0,
        what="hibernation",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hermesd:\n  workers: {max: many}\n", 'hermesd.workers.max: "many" is not a whole number'),
        ("hermesd: [\n", "broken YAML"),
        ("hermesd:\n  workers: {max: 1, spare: 9}\n", "hermesd.workers.spare: is more than workers.max"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_told_as_a_start_would(scene: Scene, text: str, told: str) -> None:
    daemon = scene.daemon
    before = daemon.ask("status")["workers"]["max"]
    (daemon.home / "config.yaml").write_text(text)
    done = daemon.ctl("reload")
    assert done.returncode == 6
    assert told in done.stderr
    assert f"  --> {daemon.home}/config.yaml:" in done.stderr
    assert done.stderr == daemon.ctl("config", "check").stderr
    as_json = daemon.ctl("--json", "reload")
    assert as_json.returncode == 6
    assert json.loads(as_json.stdout)["error"]["code"] == "config"
    assert daemon.ask("status")["workers"]["max"] == before
    assert "You said: still here" in scene.fake.talk("still here", chat="a")


def test_sighup_reloads_and_a_bad_file_is_only_logged(scene: Scene) -> None:
    daemon = scene.daemon
    good = (daemon.home / "config.yaml").read_text()
    (daemon.home / "config.yaml").write_text("hermesd: {workers: {max: many}}\n")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "the configuration was not reloaded" in log_of(daemon), what="the refusal in the log")
    assert '\\"many\\" is not a whole number' in log_of(daemon)
    assert daemon.ask("status")["workers"]["max"] == 64
    (daemon.home / "config.yaml").write_text(good)
    change(daemon, workers={"max": 9}, log_level="DEBUG")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.ask("status")["workers"]["max"] == 9, what="the new settings")
    assert "at once: hermesd.workers.max, hermesd.log_level" in log_of(daemon)
