"""The life of MCP servers over all sessions of a hermesd: lists without processes, budgets, reloads, /stop."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.daemon import turn_runs
from harness.running import wait_until
from harness.scene import Scene

LONG = 60.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    with Scene(ours={"workers": {"idle_timeout": "12h"}, "adopt_timeout": "60s"}) as made:
        bad = made.hostile("die_until_healed")
        bad["env"] = {**bad["env"], "HEALED": str(made.place / "healed"), "SECRET": "canary-7391"}
        made.configure(
            plain=made.hostile("leave_a_child"),
            other=made.hostile("be_plain"),
            bad=bad,
            missing={"command": "/no/such/program"},
        )
        yield made.start()


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    """With the servers of its start, before the test and after it."""
    path = shared.daemon.home / "config.yaml"
    before = path.read_text()
    yield shared
    path.write_text(before)
    assert shared.daemon.ctl("reload").returncode == 0


def budget(scene: Scene, name: str) -> dict[str, Any]:
    budgets = scene.daemon.ask("mcp.list")["budgets"]
    return next(one for one in budgets if one["server"] == name)


def processes(scene: Scene, chat: str) -> dict[str, int]:
    """The servers of a session that run, with their pids."""
    return {server["name"]: server["pid"] for server in scene.worker(chat)["mcp"] if server["pid"]}


def call(scene: Scene, name: str, chat: str, **arguments: Any) -> str:
    return scene.fake.talk(f"!call {name} {json.dumps(arguments)}", chat=chat)


def test_what_one_session_has_listed_the_others_see_without_a_process(scene: Scene) -> None:
    first = scene.fake.talk("!tools", chat="lister")
    assert "plain.echo" in first
    assert "other.echo" in first
    assert scene.fake.talk("!tools", chat="looker") == first
    assert processes(scene, "looker") == {}
    assert call(scene, "plain.echo", "looker") == "echo: {}"
    assert processes(scene, "looker").keys() == {"plain"}


def test_a_server_that_fails_is_left_alone_in_every_session_until_somebody_mends_it(scene: Scene) -> None:
    (scene.place / "healed").unlink(missing_ok=True)
    assert scene.daemon.ctl("mcp", "restart", "bad").returncode == 0
    told = call(scene, "bad.echo", "one")
    assert "does not start: it exited with status 1; its last words: no API key: set HOSTILE_KEY" in told
    for _ in range(3):  # the first waits are short
        parked = call(scene, "bad.echo", "two")
    spawns = budget(scene, "bad")["spawns"]
    scene.daemon.ask("mcp.reset", server="missing")
    call(scene, "missing.echo", "one")
    parked = call(scene, "missing.echo", "two")
    assert "/no/such/program" in parked
    assert "it is tried again in 4 min" in parked
    assert "hermesctl mcp reset missing" in parked

    row = budget(scene, "missing")
    assert (row["state"], row["failures"], row["running"]) == ("parked", 1, 0)
    assert row["next_try_at"] is not None
    page = scene.daemon.ctl("mcp", "list").stdout.splitlines()
    assert page[0].split()[:8] == ["SERVER", "STATE", "RUNNING", "TOOLS", "SPAWNS", "FAILED", "CRASHED", "NEXT"]
    (line,) = [line for line in page[:5] if line.startswith("missing")]
    assert line.split()[1] == "parked"
    assert " in 4m " in line or " in 5m " in line

    shown = scene.daemon.ctl("mcp", "show", "bad").stdout
    assert "canary-7391" not in shown
    assert "SECRET" in shown
    assert "no API key" in shown
    document = scene.daemon.json("mcp", "show", "bad")
    assert (document["env"], document["spawns"]) == (["CONNECT_BACK", "HEALED", "SECRET"], spawns)

    (scene.place / "healed").touch()
    assert scene.daemon.ctl("mcp", "reset", "bad").returncode == 0
    assert call(scene, "bad.echo", "two") == "echo: {}"
    assert call(scene, "bad.echo", "one") == "echo: {}"
    row = budget(scene, "bad")
    assert (row["state"], row["failures"], row["reason"], row["running"]) == ("good", 0, "", 2)


def _two_lines(scene: Scene) -> list[str]:
    done = scene.daemon.ctl("mcp", "logs", "other", "-n", "2")
    lines = done.stdout.splitlines()
    return lines if len(lines) == 2 and not lines[1].startswith("--- ") else []


def test_the_log_of_a_server_is_shown(scene: Scene) -> None:
    call(scene, "other.loud", "noisy", size=300)
    # Its standard error and its answers are two ways.
    header, line = wait_until(lambda: _two_lines(scene), what="the line")
    assert header.startswith("--- ")
    assert "/mcp-other-" in header
    assert line == "x" * 300
    assert json.loads(scene.daemon.ctl("--json", "mcp", "logs", "other", "-n", "1").stdout) == {"line": "x" * 300}
    unknown = scene.daemon.ctl("mcp", "logs", "nothing-of-it")
    assert (unknown.returncode, "has written nothing" in unknown.stderr) == (1, True)
    assert "did you mean other?" in scene.daemon.ctl("mcp", "show", "othr").stderr


@pytest.mark.alone("what must end on time is measured alone")
def test_a_stop_ends_what_the_tool_has_started_and_the_worker_stays(scene: Scene) -> None:
    chat = "grower"
    call(scene, "plain.echo", chat)
    call(scene, "other.echo", chat)
    before, worker = processes(scene, chat), scene.worker(chat)["pid"]
    (left,) = [child.pid for child in psutil.Process(before["plain"]).children()]
    wait_until(lambda: left in scene.roll.alive(), what="the child of the server")
    # Servers of the tests before this one may be ending just now: what counts is who comes.
    known = set(scene.roll.alive())
    message = scene.fake.say('!call plain.grow {"deep": 10}', chat=chat)
    wait_until(lambda: len(set(scene.roll.alive()) - known) == 10, LONG, what="ten processes")
    family = {before["plain"], left, *scene.roll.alive()} - (known - {before["plain"], left})
    assert len(family) == 12
    began = time.monotonic()
    assert "Stopped." in scene.fake.talk("/stop", chat=chat)
    scene.fake.final(message, chat=chat)
    wait_until(lambda: not family & set(scene.roll.alive()), LONG, what="the end of all")
    took = time.monotonic() - began
    assert took < 5.0
    # Its worker tells so when it has looked that they are gone.
    wait_until(lambda: processes(scene, chat) == {"other": before["other"]}, LONG, what="the report")
    assert scene.worker(chat)["pid"] == worker
    assert call(scene, "plain.echo", chat) == "echo: {}"


def change(scene: Scene, **servers: dict[str, Any] | None) -> None:
    path = scene.daemon.home / "config.yaml"
    config = json.loads(path.read_text())
    for name, entry in servers.items():
        if entry is None:
            del config["mcp_servers"][name]
        else:
            config["mcp_servers"][name] = entry
    path.write_text(json.dumps(config, indent=1))


def test_a_reload_ends_what_differs_when_its_worker_is_idle_and_nothing_else(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    (scene.place / "healed").touch()
    daemon.ask("mcp.reset", server="bad")
    for chat in ("idle", "busy"):
        for name in ("plain", "other", "bad"):
            call(scene, f"{name}.echo", chat)
    before = {chat: processes(scene, chat) for chat in ("idle", "busy")}
    running = fake.say('!call other.slow {"seconds": 600}', chat="busy")
    wait_until(lambda: turn_runs(scene.worker("busy")), LONG, what="a turn")
    plain = {**scene.hostile("leave_a_child"), "env": {"CONNECT_BACK": str(scene.roll.path), "MORE": "1"}}
    other = {**scene.hostile("be_plain"), "timeout": 9}
    change(scene, plain=plain, bad=None, new=scene.hostile("be_plain"), other=other)
    plan = daemon.json("reload", "--dry-run")
    assert plan["mcp"] == {"added": ["new"], "replaced": ["plain"], "adjusted": ["other"], "removed": ["bad"]}
    assert processes(scene, "idle") == before["idle"]
    said = daemon.ctl("reload").stdout
    assert "applied to each worker when it is idle: mcp_servers.bad" in said
    assert "MCP servers replaced: plain" in said
    wait_until(lambda: processes(scene, "idle") == {"other": before["idle"]["other"]}, LONG, what="two ends")
    assert processes(scene, "busy") == before["busy"], "not while its turn runs"
    assert "there is no MCP server" in call(scene, "bad.echo", "idle")
    assert call(scene, "new.echo", "idle") == "echo: {}"
    assert "MORE" in call(scene, "plain.environment", "idle")

    assert "Stopped." in fake.talk("/stop", chat="busy")
    fake.final(running, chat="busy")
    wait_until(lambda: processes(scene, "busy") == {}, LONG, what="the ends in the busy session, its call cut off")
    assert [one["server"] for one in daemon.ask("mcp.list")["budgets"]] == ["plain", "other", "missing", "new"]
    assert "MORE" in call(scene, "plain.environment", "busy")


def test_a_reload_lets_the_calls_of_a_shared_server_end_where_they_are(scene: Scene) -> None:
    daemon = scene.daemon
    one, two = ({**scene.hostile("be_plain"), "scope": "host"} for _ in range(2))
    change(scene, one=one, two=two)
    daemon.ctl("reload")
    for name in ("one", "two"):
        assert call(scene, f"{name}.echo", "ann") == "echo: {}"
    # What a holder tells of its servers and what it answers go different ways.
    wait_until(lambda: sorted(held(scene).values()) == ["one", "two"], LONG, what="two processes")
    before = held(scene)
    end = scene.place / "end"
    running = scene.fake.say(f"!call one.slow {json.dumps({'until': str(end)})}", chat="ann")
    wait_until(lambda: "busy" in [row["state"] for row in holders(scene)], LONG, what="the call")

    # Another time-out: the process goes on, and so does the worker that holds it.
    change(scene, one={**one, "timeout": "7m"})
    assert daemon.json("reload", "--dry-run")["mcp"]["adjusted"] == ["one"]
    assert daemon.ctl("reload").returncode == 0
    assert call(scene, "one.echo", "bob") == "echo: {}"
    assert held(scene) == before

    # Another process: the call ends in the old one, beside which the next call starts the new one.
    change(scene, one={**one, "env": {**one["env"], "MORE": "1"}})
    assert daemon.ctl("reload").returncode == 0
    assert "MORE" in call(scene, "one.environment", "bob")
    wait_until(lambda: len(held(scene)) == 3, LONG, what="a third process")
    after = held(scene)
    assert set(before) < set(after), (before, after)
    end.touch()
    assert scene.fake.final(running, chat="ann")["text"] == f"after {end}"
    gone = {pid for pid, name in before.items() if name == "one"}
    wait_until(lambda: held(scene).keys() == after.keys() - gone, LONG, what="the end of the old one")
    assert "MORE" in call(scene, "one.environment", "ann")


def holders(scene: Scene) -> list[dict[str, Any]]:
    return [row for row in scene.daemon.ask("ps", tree=True)["workers"] if row.get("serves")]


def held(scene: Scene) -> dict[int, str]:
    """The processes of shared servers, by their pids."""
    return {server["pid"]: server["name"] for row in holders(scene) for server in row["mcp"] if server["pid"]}


def test_a_bad_file_changes_no_server_and_sighup_does_what_reload_does(scene: Scene) -> None:
    daemon = scene.daemon
    call(scene, "other.echo", "hup")
    before = processes(scene, "hup")
    good = (daemon.home / "config.yaml").read_text()
    (daemon.home / "config.yaml").write_text("mcp_servers: {other: {command: [1, 2]}}\n")
    assert daemon.ctl("reload").returncode == 6
    assert processes(scene, "hup") == before
    (daemon.home / "config.yaml").write_text(good)
    change(scene, other=None)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: processes(scene, "hup") == {}, LONG, what="the end of the removed server")


def kept(scene: Scene, name: str) -> dict[str, Any]:
    """What the file says of a server; it is written a second after what it tells of."""
    path = scene.daemon.home / "hermesd" / "mcp.json"
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    (entry,) = (one["budget"] for one in document["servers"] if one["name"] == name)
    return {"state": entry["state"], "spawns": entry["spawns"]}


def test_budgets_and_lists_outlive_hermesd_and_its_workers_are_told_what_changed_meanwhile(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    call(scene, "plain.echo", "heir")
    call(scene, "other.echo", "heir")
    before, worker = processes(scene, "heir"), scene.worker("heir")["pid"]
    scene.daemon.ask("mcp.reset", server="missing")
    call(scene, "missing.echo", "heir")
    spawns = budget(scene, "missing")["spawns"]
    wait_until(lambda: kept(scene, "missing") == {"state": "parked", "spawns": spawns}, LONG, what="the file")
    change(scene, other=None)
    daemon.kill()
    fake.close()
    daemon.start()
    assert "tried again in" in call(scene, "missing.echo", "heir")
    row = budget(scene, "missing")
    assert (row["state"], row["spawns"]) == ("parked", spawns)
    assert scene.worker("heir")["pid"] == worker
    wait_until(lambda: processes(scene, "heir") == {"plain": before["plain"]}, LONG, what="the end of the removed one")
    assert "plain.echo" in fake.talk("!tools", chat="late")
    assert "plain" not in processes(scene, "late"), "what the hermesd before had listed"


@pytest.mark.alone("what must end on time is measured alone")
def test_idle_servers_end_and_ten_stubborn_ones_delay_no_stop() -> None:
    """One hermesd for both: the second ends it."""
    with Scene() as scene:
        stubborn = {f"s{number}": scene.hostile("ignore_everything") for number in range(10)}
        scene.configure(idle={**scene.hostile("leave_a_child"), "idle_timeout": "500ms"}, **stubborn)
        scene.start()
        assert call(scene, "idle.echo", "a") == "echo: {}"
        wait_until(lambda: processes(scene, "a") == {}, LONG, what="the end of the idle server")
        assert "s9.echo" in scene.fake.talk("!start", chat="a", seconds=120.0)
        began = time.monotonic()
        assert scene.daemon.ctl("stop", scene.session("a")).returncode == 0
        took = time.monotonic() - began
        assert scene.roll.alive() == []
        assert took < 6.0
        assert "Traceback" not in (scene.daemon.home / "hermesd/logs/hermesd.log").read_text()
        assert Path(scene.daemon.home / "hermesd/logs/mcp-s9.log").exists()
