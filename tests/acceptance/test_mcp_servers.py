"""Real MCP servers under a session of the installed hermesd: from npm, started plainly and through npx."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from harness.census import identities, living
from harness.daemon import Daemon
from harness.running import TIME, running
from harness.scene import NODE, has_npx, npx_everything

DM = "agent:main:local:dm"


@pytest.fixture(scope="module")
def daemon(lacking: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    if shutil.which("node") is None or not has_npx():
        lacking("no Node with the servers of tests/node: npm ci --prefix tests/node")
    shared = tmp_path_factory.mktemp("shared")
    (shared / "note.txt").write_text("about swans")
    programs = NODE / "node_modules" / ".bin"
    servers: dict[str, Any] = {
        "files": {"command": str(programs / "mcp-server-filesystem"), "args": [str(shared)]},
        "everything": {"command": str(programs / "mcp-server-everything")},
        "npx": npx_everything(),
        "time": TIME,
        "off": {**TIME, "enabled": False},
        "missing": {"command": "/no/such/program"},
    }
    with running({"mcp_servers": servers}, env={"COLUMNS": "220", "SHARED": str(shared)}) as made:
        yield made


def say(daemon: Daemon, text: str, name: str) -> str:
    done = daemon.ctl("chat", name, input=f"{text}\n", timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row_of(daemon: Daemon, name: str) -> dict[str, Any]:
    return next(row for row in daemon.ask("ps", tree=True)["workers"] if row["session"] == f"{DM}:{name}")


def below(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def test_no_server_runs_before_the_first_call_and_only_the_called_one_after_it(daemon: Daemon) -> None:
    say(daemon, "hello", "lazy")
    row = row_of(daemon, "lazy")
    assert (row["processes"], row["tree"][0]["pid"], below(row["pid"])) == (1, row["pid"], set())
    assert not [server for server in row["mcp"] if server["pid"]]
    assert json.loads(say(daemon, '!call time.get_current_time {"timezone": "UTC"}', "lazy"))["timezone"] == "UTC"
    row = row_of(daemon, "lazy")
    assert [(server["name"], server["state"]) for server in row["mcp"] if server["pid"]] == [("time", "ready")]
    assert {process["pid"] for process in row["tree"]} == {row["pid"], *below(row["pid"])}


def test_a_file_is_read_and_one_outside_is_refused_by_the_server_itself(daemon: Daemon) -> None:
    path = Path(daemon.env["SHARED"]) / "note.txt"
    assert "about swans" in say(daemon, f"!call files.read_text_file {json.dumps({'path': str(path)})}", "files")
    refused = say(daemon, '!call files.read_text_file {"path": "/etc/hostname"}', "files")
    assert "reports an error" in refused
    server = next(server for server in row_of(daemon, "files")["mcp"] if server["name"] == "files")
    assert server["state"] == "ready", "what a tool refuses is no failure of its server"


def test_a_server_through_npx_is_shown_with_all_its_processes_and_is_gone_with_its_session(daemon: Daemon) -> None:
    assert "swan" in say(daemon, '!call npx.echo {"message": "swan"}', "npx")
    row = row_of(daemon, "npx")
    inside = [process for process in row["tree"] if process["mcp"] == "npx"]
    assert {process["pid"] for process in inside} == below(row["pid"])
    assert any("npm" in process["command"] or "npx" in process["command"] for process in inside)
    assert any("mcp-server-everything" in process["command"] for process in inside)
    text = daemon.ctl("ps", "--tree").stdout
    assert "mcp npx" in text
    assert all(f" {process['pid']} " in text for process in inside), text
    tree = identities(process["pid"] for process in row["tree"])
    assert daemon.ctl("stop", f"{DM}:npx").returncode == 0
    assert not living(tree)


def test_a_server_is_started_once_and_its_state_lasts_for_the_session(daemon: Daemon) -> None:
    say(daemon, '!call everything.echo {"message": "one"}', "kept")
    pids = below(row_of(daemon, "kept")["pid"])
    assert "two" in say(daemon, '!call everything.echo {"message": "two"}', "kept")
    daemon.ctl("chat", "kept", input="!fail\n")
    assert "three" in say(daemon, '!call everything.echo {"message": "three"}', "kept")
    assert below(row_of(daemon, "kept")["pid"]) == pids


def test_a_server_that_died_is_started_again_by_the_next_call(daemon: Daemon) -> None:
    say(daemon, '!call everything.echo {"message": "one"}', "again")
    row = row_of(daemon, "again")
    for pid in below(row["pid"]):
        psutil.Process(pid).kill()  # which holds the start time of the pid it was made of
    said = say(daemon, '!call everything.echo {"message": "two"}', "again")
    if "two" not in said:  # the call that met the dying server is told so, and nothing is repeated
        assert "everything" in said
        assert "two" in say(daemon, '!call everything.echo {"message": "two"}', "again")
    assert row_of(daemon, "again")["pid"] == row["pid"]


def test_a_program_that_is_not_there_is_named_and_the_others_work(daemon: Daemon) -> None:
    assert "/no/such/program" in say(daemon, "!call missing.tool", "broken")
    assert "off" in say(daemon, "!call off.get_current_time", "broken")
    tools = say(daemon, "!tools", "broken")
    assert {line.partition(".")[0] for line in tools.splitlines()} >= {"files", "everything", "npx", "time"}
    assert "missing." not in tools


def test_the_output_of_a_servers_stderr_is_kept_in_a_log_of_its_own(daemon: Daemon) -> None:
    say(daemon, '!call everything.echo {"message": "one"}', "noisy")
    logs = [path for path in (daemon.home / "hermesd/logs").rglob("*") if "everything" in path.name]
    assert logs
    assert any(path.stat().st_size for path in logs)


def test_stop_leaves_no_process_of_any_server(daemon: Daemon) -> None:
    """The last one of this file: it ends the daemon."""
    say(daemon, "!start", "last")
    assert len(below(row_of(daemon, "last")["pid"])) >= 6
    tree = identities(daemon.processes())
    took = daemon.stop()
    assert took < 6.0
    assert not living(tree)
    assert not daemon.processes()
    assert not daemon.cgroups()
