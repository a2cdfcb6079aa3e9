"""hermesctl where it changes things: send, drain and undrain, mcp; and config and completion, which need no hermesd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
from harness.census import identify
from harness.daemon import BIN, Daemon, turn_runs
from harness.figures import StopWatch
from harness.running import TIME, wait_until
from harness.scene import Scene

from hermesd.supervisor.control.client import Client
from hermesd.supervisor.instance.paths import paths_of

NOW = '!call time.get_current_time {"timezone": "UTC"}'


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(servers={"time": TIME}, ours={"workers": {"max_turns": 4}}) as made:
        yield made.start()


def busy(scene: Scene, chat: str) -> bool:
    return any(row["session"] == scene.session(chat) and turn_runs(row) for row in scene.daemon.workers())


# ---- send ------------------------------------------------------------------------------------------------------------


def test_send_puts_a_message_on_disk_and_the_platform_shows_it(scene: Scene) -> None:
    scene.fake.talk("hello", chat="a")
    done = scene.daemon.ctl("send", "--platform", "fake", "--chat", "a", "good morning", "--wait")
    assert done.returncode == 0, done.stderr
    number = int(done.stdout.split()[1])
    assert done.stdout == f"message {number} to fake chat a is sent\n"
    assert scene.fake.wait_shown("good morning", chat="a")["reply_to"] == ""
    document = scene.daemon.json("send", "--session", scene.session("a"), "and again", "--wait")
    shown = scene.fake.wait_shown("and again", chat="a")
    assert document == {
        "schema": 1, "id": number + 1, "platform": "fake", "chat": "a", "state": "sent",
        "message_id": f"out-{shown['number']}", "error": "",
    }  # fmt: skip


def test_send_takes_stdin_and_the_same_key_is_sent_once(scene: Scene) -> None:
    scene.fake.talk("hello", chat="keyed")
    args = ("send", "--session", scene.session("keyed"), "--key", "k1", "--wait", "-")
    first = scene.daemon.ctl(*args, input="two\nlines")
    second = scene.daemon.ctl(*args, input="something else")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert [shown["text"] for shown in scene.fake.shown(chat="keyed") if not shown["reply_to"]] == ["two\nlines"]


def test_send_waits_through_a_platform_that_says_not_now_and_tells_of_one_that_refuses(scene: Scene) -> None:
    scene.fake.talk("hello", chat="slow")
    scene.fake.ask("cut", count=1, error="retry", after=0.2)
    done = scene.daemon.ctl("send", "--session", scene.session("slow"), "patience", "--wait")
    assert done.returncode == 0, done.stderr
    scene.fake.ask("cut", count=1, error="rejected")
    done = scene.daemon.ctl("send", "--session", scene.session("slow"), "never", "--wait")
    assert done.returncode == 1
    assert "is failed: cannot send: the fake platform was told to fail" in done.stdout
    scene.fake.ask("disconnect", seconds=3600)
    done = scene.daemon.ctl("send", "--session", scene.session("slow"), "later", "--wait", "--timeout", "0.2")
    assert done.returncode == 9
    assert "is not sent yet; hermesd goes on trying" in done.stderr
    scene.fake.ask("disconnect", seconds=0)
    scene.fake.wait_shown("later", chat="slow")


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (("--platform", "fkae", "--chat", "a", "x"), 1, "there is no platform 'fkae' here; there are: fake, local"),
        (("--platform", "fake", "--chat", "nobody", "x"), 1, "nobody has ever written from chat 'nobody' of fake"),
        (("--platform", "fake", "--chat", "nobody", "--unseen", "--wait", "x"), 1, ""),
        (("--session", "agent:main:fake:dm:nobody", "x"), 1, "there is no session agent:main:fake:dm:nobody"),
        (("--session", "s", "--platform", "fake", "x"), 2, "give one or the other"),
        (("x",), 2, "give a platform and a chat, or a session"),
        (("--platform", "fake", "--chat", "a", "  "), 2, "there is nothing to send"),
    ],
)
def test_send_to_nowhere_is_told(scene: Scene, args: tuple[str, ...], status: int, told: str) -> None:
    done = scene.daemon.ctl("send", *args)
    assert done.returncode == status, done
    assert told in done.stderr
    assert "is failed" in done.stdout if "--unseen" in args else not done.stdout


# ---- drain -----------------------------------------------------------------------------------------------------------


def test_drain_lets_turns_end_and_messages_wait_until_undrain(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    running = fake.say("!ask how long?", chat="works")
    fake.wait_shown("how long?", chat="works")
    before = datetime.now(UTC).isoformat()
    done = daemon.ctl("drain", "--timeout", "0.1")
    assert (done.returncode, done.stdout) == (9, "hermesd is draining: 1 turn still running\n")
    status = daemon.json("status")
    assert (status["state"], status["drain"]) == ("draining", {"everything": True, "sessions": []})
    assert status["started_at"] < before <= status["draining_since"]
    assert "Draining" in daemon.ctl("status").stdout
    waits = fake.say("what now?", chat="waits")
    assert "draining: new messages wait until hermesctl undrain" in fake.talk("/status", chat="waits")
    with Client(paths_of(daemon.home, daemon.env).control_socket, 30.0) as client:
        drain = client.stream("drain")
        event = drain.next()
        assert event is not None
        assert event["busy"] == 1
        fake.say("/approve", chat="works")
        assert [event["busy"] for event in drain][-1:] == [0], "it has waited for the end of the turn"
        assert drain.result == {"schema": 1, "state": "drained", "running": 0, "waiting": 1}
    done = daemon.ctl("drain")
    assert done.returncode == 0
    assert done.stdout == "hermesd is drained: nothing runs; 1 message waiting (hermesctl undrain lifts it)\n"
    assert fake.final(running, chat="works")["text"] == "You chose approve."
    assert not fake.ask("wait", count=1, timeout=0.1, chat="waits", reply_to=waits, final=True)["met"]
    assert daemon.json("drain") == {"schema": 1, "state": "drained", "running": 0, "waiting": 1}
    assert daemon.json("undrain") == {"schema": 1, "lifted": True, "waiting": 1}
    assert "what now?" in fake.final(waits, chat="waits")["text"]
    assert "draining" not in fake.talk("/status", chat="waits")
    assert "draining_since" not in daemon.json("status")
    assert daemon.ctl("undrain").stdout == "nothing was draining\n"


def test_one_session_can_be_drained_alone(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    fake.talk("hello", chat="one")
    done = daemon.ctl("drain", "--session", scene.session("one"))
    assert done.returncode == 0, done.stderr
    status = daemon.json("status")
    assert (status["state"], status["drain"]) == (
        "running", {"everything": False, "sessions": [scene.session("one")]},
    )  # fmt: skip
    waits = fake.say("later", chat="one")
    assert "You said: now" in fake.talk("now", chat="other")
    assert not fake.ask("wait", count=1, timeout=0.1, chat="one", reply_to=waits, final=True)["met"]
    assert daemon.ctl("undrain", "--session", scene.session("one")).stdout == "lifted; 1 message waiting\n"
    assert "later" in fake.final(waits, chat="one")["text"]
    for verb in ("drain", "undrain"):
        done = daemon.ctl(verb, "--session", "nobody")
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no session nobody" in done.stderr


def test_ctrl_c_ends_the_watching_and_not_the_drain_and_a_lifted_drain_is_told(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    running = fake.say("!sleep 600", chat="long")
    wait_until(lambda: busy(scene, "long"), what="a running turn")
    watchers = [
        subprocess.Popen(daemon.command("hermesctl", "drain"), env=daemon.env, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    try:
        interrupted, lifted = watchers
        for watcher in watchers:  # an order that is given after the undrain would be another drain
            assert watcher.stderr is not None
            assert "draining: 1 turn still running" in watcher.stderr.readline()
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.stderr is not None
        assert "the drain goes on until hermesctl undrain" in interrupted.stderr.read()
        assert interrupted.wait(10) == 130
        assert daemon.json("status")["drain"]["everything"]
        assert daemon.ctl("undrain").returncode == 0
        out, _ = lifted.communicate(timeout=10)
        assert (lifted.returncode, out) == (1, "the drain of hermesd was lifted meanwhile; 1 turn running\n")
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    assert "Stopped." in fake.talk("/stop", chat="long")
    fake.final(running, chat="long")


# ---- mcp -------------------------------------------------------------------------------------------------------------


def servers(scene: Scene) -> dict[str, dict[str, object]]:
    return {row["session"]: row for row in scene.daemon.json("mcp", "list")["servers"]}


def test_mcp_list_shows_each_server_and_restart_gives_it_a_new_process(scene: Scene) -> None:
    daemon, fake = scene.daemon, scene.fake
    for chat in ("m1", "m2"):
        assert "timezone" in fake.talk(NOW, chat=chat)
    fake.talk("hello", chat="m3")
    document = daemon.json("mcp", "list")
    assert (document["schema"], document["configured"]) == (1, ["time"])
    before = servers(scene)
    for chat in ("m1", "m2"):
        row = before[scene.session(chat)]
        assert (row["server"], row["state"], row["generation"], row["reason"]) == ("time", "ready", 1, "")
        assert "mcp_server_time" in Path(f"/proc/{row['pid']}/cmdline").read_text()
        assert row["cpu_seconds"] > 0
        assert row["memory_bytes"] > 1 << 20
    resting = before[scene.session("m3")]
    assert (resting["state"], resting["pid"], resting["generation"]) == ("stopped", None, 0)
    page = daemon.ctl("mcp", "list").stdout.splitlines()
    assert page[0].split()[:3] == ["SERVER", "STATE", "RUNNING"]
    assert page[1].split()[:3] == ["time", "good", "2"]
    assert page[3].split() == ["SESSION", "SERVER", "STATE", "PID", "GENERATION", "CPU-TIME", "MEM", "REASON"]
    assert {line.split()[0] for line in page[4:]} >= {scene.session("m1"), scene.session("m2")}
    assert scene.session("m3") not in "".join(page), "nothing of it runs"

    done = daemon.ctl("mcp", "restart", "time", "--session", scene.session("m1"))
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"{scene.session('m1')}: restarted: process ")
    assert identify(int(str(before[scene.session("m1")]["pid"]))) is None
    after = servers(scene)
    assert after[scene.session("m1")]["state"] == "stopped"
    assert after[scene.session("m2")]["pid"] == before[scene.session("m2")]["pid"]
    assert "timezone" in fake.talk(NOW, chat="m1")
    assert servers(scene)[scene.session("m1")]["generation"] == 2

    outcomes = daemon.json("mcp", "restart", "time")["sessions"]
    assert {(row["session"], row["outcome"]) for row in outcomes} >= {
        (scene.session(chat), "done") for chat in ("m1", "m2", "m3")
    }  # fmt: skip
    assert identify(int(str(before[scene.session("m2")]["pid"]))) is None
    assert "timezone" in fake.talk(NOW, chat="m2")


def test_a_call_that_runs_while_its_server_is_restarted_fails_and_the_next_one_is_answered() -> None:
    with Scene() as scene:
        scene.configure(slow=scene.hostile("be_plain"))
        scene.start()
        assert scene.daemon.ctl("mcp", "restart", "slow").stdout == "no worker runs, so slow runs nowhere\n"
        message = scene.fake.say('!call slow.slow {"seconds": 600}', chat="a")
        wait_until(
            lambda: any(row["state"] == "ready" for row in scene.daemon.json("mcp", "list")["servers"]), what="a server"
        )
        assert scene.daemon.ctl("mcp", "restart", "slow").returncode == 0
        assert "slow" in scene.fake.final(message, chat="a")["text"]
        assert "You said: hello" in scene.fake.talk("hello", chat="a")


def test_mcp_restart_of_what_is_not_there_is_told(scene: Scene) -> None:
    scene.fake.talk("hello", chat="m3")
    done = scene.daemon.ctl("mcp", "restart", "tme")
    assert (done.returncode, done.stderr) == (1, "error: there is no MCP server tme\n  fix: did you mean time?\n")
    done = scene.daemon.ctl("mcp", "restart", "time", "--session", "nobody")
    assert done.returncode == 1
    assert "there is no session nobody" in done.stderr


# ---- without a hermesd -----------------------------------------------------------------------------------------------


def test_config_check_needs_no_hermesd_and_takes_any_file(make_home: Callable[[str], Path], tmp_path: Path) -> None:
    daemon = Daemon(make_home("home"), "hermesd: {workers: {max: 3}}\n")
    done = daemon.ctl("config", "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"the configuration of {daemon.home} is fine\n", "")
    other = tmp_path / "other.yaml"
    other.write_text("hermesd:\n  agnet: demo\n  workers: {max: 0}\n")
    document = json.loads(daemon.ctl("--json", "config", "check", str(other)).stdout)
    assert (document["schema"], document["valid"]) == (1, False)
    assert document["problems"] == [
        {"severity": "error", "key": "hermesd.workers.max", "message": "0 is too small", "fix": "use at least 1",
         "file": str(other), "line": 3, "column": 18},
    ]  # fmt: skip
    other.write_text("hermesd:\n  agnet: demo\n")
    document = json.loads(daemon.ctl("--json", "config", "check", str(other)).stdout)
    assert (document["valid"], [problem["key"] for problem in document["problems"]]) == (True, ["hermesd.agnet"])
    assert daemon.ctl("config", "check", str(tmp_path / "none.yaml")).returncode == 6


def test_config_schema_is_a_json_schema_of_every_section(make_home: Callable[[str], Path]) -> None:
    daemon = Daemon(make_home("home"))
    schema = daemon.json("config", "schema")
    assert {"hermesd", "platforms", "mcp_servers"} <= schema["properties"].keys()
    assert schema == json.loads(daemon.ctl("config", "schema").stdout)
    assert schema["$defs"]["Workers"]["properties"]["max"]["minimum"] == 1
    assert "access" not in schema["properties"]


def test_the_completion_of_bash_knows_commands_and_options(make_home: Callable[[str], Path],
                                                           lacking: Callable[[str], NoReturn]) -> None:  # fmt: skip
    bash = shutil.which("bash") or lacking("there is no bash")
    env = {**Daemon(make_home("home")).env, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    script = """
        eval "$(hermesctl completion bash)" || exit 1
        complete -p hermesctl
        for words in "hermesctl st" "hermesctl mcp re" "hermesctl send --pl" "hermesctl completion z"; do
            COMP_WORDS=($words)
            COMPREPLY=()
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _hermesctl_completion hermesctl
            echo "$words: ${COMPREPLY[*]}"
        done
    """
    done = subprocess.run([bash, "-c", script], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _hermesctl_completion hermesctl",
        "hermesctl st: status stop",
        "hermesctl mcp re: reset restart",
        "hermesctl send --pl: --platform",
        "hermesctl completion z: zsh",
    ], done.stderr
    for shell in ("zsh", "fish"):
        made = subprocess.run([BIN / "hermesctl", "completion", shell], env=env, capture_output=True, text=True)
        assert (made.returncode, made.stderr) == (0, "")
        assert "_HERMESCTL_COMPLETE" in made.stdout


def test_a_key_press_in_a_shell_is_answered_without_importing_every_command(make_home: Callable[[str], Path]) -> None:
    env = {**Daemon(make_home("home")).env, "_HERMESCTL_COMPLETE": "bash_complete", "COMP_WORDS": "hermesctl ",
           "COMP_CWORD": "1", "PYTHONPROFILEIMPORTTIME": "1"}  # fmt: skip
    watch = StopWatch()
    done = subprocess.run([BIN / "hermesctl"], env=env, capture_output=True, text=True, timeout=30)
    assert watch.seconds() < 5.0
    assert "plain,status" in done.stdout.splitlines()
    assert "hermesd.supervisor.cli.commands.status" not in done.stderr
