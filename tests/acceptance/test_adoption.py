"""A hermesd that takes over from another one: after its death, after a start that failed, and in its own place."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import CannotStart, turn_runs
from harness.gate import GATED, Gate
from harness.ports import free_port
from harness.running import wait_until
from harness.scene import Scene

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="a keeper proves who it is by its start time in /proc"),
]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(ours={"containment": "subreaper", "adopt_timeout": "20s", **GATED}) as made:
        yield made
        made.fake.close()
        made.daemon.__exit__()
        left = [*made.daemon.processes(), *made.daemon.sockets()]
        assert not left, left


CALLER = """
import sys, urllib.request as http
headers = {"Content-Type": "application/json"}
http.urlopen(http.Request(sys.argv[1], sys.argv[2].encode(), headers)).read()
"""


def busy(scene: Scene, chat: str, gate: Gate) -> tuple[str, dict[str, Any]]:
    """A running turn: its message, and the row of its worker."""
    scene.fake.talk("hello", chat=chat)
    message = scene.fake.say(gate.text, chat=chat)
    return message, wait_until(lambda: turn_runs(row := scene.worker(chat)) and row)


def test_restart_supervisor_executes_hermesd_anew_on_the_same_workers(scene: Scene) -> None:
    scene.start()
    gate = Gate(scene.place)
    message, before = busy(scene, "one", gate)
    scene.fake.talk("hello", chat="two")
    started = scene.daemon.json("status")["started_at"]
    done = scene.daemon.ctl("restart", "--supervisor")
    scene.fake.close()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"hermesd (pid {scene.daemon.pid}) is up again after "), done.stdout
    assert "; 2 workers were kept" in done.stdout
    status = scene.daemon.json("status")
    assert (status["pid"], status["workers"]["adopted"]) == (scene.daemon.pid, 2)
    assert status["started_at"] != started
    assert scene.worker("one")["pid"] == before["pid"]
    gate.open()
    assert scene.fake.final(message, chat="one")["text"] == gate.ANSWER
    ps = scene.daemon.json("ps")
    (adopted,) = ps["keepers"]
    assert adopted["pid"] != ps["keeper"]["pid"]
    again = scene.daemon.json("restart", "--supervisor")
    scene.fake.close()
    assert (again["pid"], again["workers_kept"], again["workers_before"]) == (scene.daemon.pid, 2, 2)
    assert "I remember" in scene.fake.talk("hello again", chat="one")
    assert scene.worker("one")["pid"] == before["pid"]
    assert scene.daemon.ctl("stop").returncode == 0
    scene.daemon.release()


def test_one_in_the_foreground_keeps_its_process_and_obeys_ctrl_c_afterwards(scene: Scene) -> None:
    hermesd = subprocess.Popen(
        scene.daemon.command("hermesd"),
        env=scene.daemon.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with hermesd:
        wait_until(lambda: scene.daemon.ctl("version", "--json").returncode == 0 and scene.fake.path.exists(), 20.0)
        wait_until(lambda: scene.daemon.json("status").get("uptime_s"), 20.0)
        scene.fake.talk("hello", chat="one")
        before = scene.worker("one")
        done = scene.daemon.ctl("restart", "--supervisor")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"hermesd (pid {hermesd.pid}) is up again")
        assert hermesd.poll() is None
        assert scene.worker("one")["pid"] == before["pid"]
        hermesd.send_signal(signal.SIGINT)
        assert hermesd.stderr is not None
        said = hermesd.stderr.read()
        assert hermesd.wait(20.0) == 0, said
        assert said.count("talk to it:") == 2, said


def test_a_configuration_that_would_not_start_is_refused_and_nothing_changes(scene: Scene) -> None:
    scene.start()
    scene.fake.talk("hello", chat="one")
    before = scene.daemon.json("status")["started_at"]
    config = scene.daemon.home / "config.yaml"
    good = config.read_text("utf-8")
    config.write_text(good.replace('"20s"', '"soon"'), "utf-8")
    done = scene.daemon.ctl("restart", "--supervisor")
    assert done.returncode == 1
    assert "would not start with its configuration" in done.stderr
    assert "adopt_timeout" in done.stderr
    assert scene.daemon.json("status")["started_at"] == before
    config.write_text(good, "utf-8")


SLOW = """
import asyncio
from pathlib import Path

class Agent:
    async def turn(self, turn, out):
        return "you said " + turn.text

async def make(session):
    Path(session.settings["mark"]).touch()
    while not Path(session.settings["until"]).exists():
        await asyncio.sleep(0.02)
    return Agent()
"""


@pytest.mark.parametrize("on_crash", ["ask", "retry"])
def test_a_message_whose_agent_was_being_made_is_answered_by_another(scene: Scene, on_crash: str) -> None:
    folder = scene.place / "agents"
    folder.mkdir()
    (folder / "slow_to_make.py").write_text(SLOW, "utf-8")
    mark, there = scene.place / "mark", scene.place / "there"
    scene.configure_ours(
        agent="slow_to_make:make", agent_path=[str(folder)],
        agent_settings={"mark": str(mark), "until": str(there)}, workers={"on_crash": on_crash},
    )  # fmt: skip
    scene.start()
    message = scene.fake.say("hello", chat="one")
    wait_until(mark.exists)
    worker = os.pidfd_open(scene.worker("one")["pid"])
    signal.pidfd_send_signal(worker, signal.SIGSTOP)
    scene.daemon.kill()
    scene.fake.close()
    mark.unlink()
    scene.start()
    wait_until(lambda: scene.worker("one")["state"] == "busy", what="the message is on its way to the worker")
    signal.pidfd_send_signal(worker, signal.SIGCONT)
    os.close(worker)
    wait_until(mark.exists, what="another worker is at it")
    there.touch()
    assert scene.fake.final(message, chat="one")["text"] == "you said hello"


def test_workers_that_would_not_wait_are_a_reason_to_refuse() -> None:
    with Scene(ours={"containment": "subreaper", "adopt_timeout": "0s"}) as scene:
        scene.start()
        done = scene.daemon.ctl("restart", "--supervisor")
        assert done.returncode == 1
        assert "adopt_timeout" in done.stderr
        assert scene.daemon.json("status")["state"] == "running"


def test_a_console_cannot_be_executed_anew(scene: Scene) -> None:
    console = subprocess.Popen(
        scene.daemon.command("hermesd", "--console"), env=scene.daemon.env,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with console:
        wait_until(lambda: scene.daemon.ctl("status").returncode == 0, 20.0)
        done = scene.daemon.ctl("restart", "--supervisor")
        assert done.returncode == 1
        assert "--console" in done.stderr
        assert console.stdin is not None
        console.stdin.close()
        assert console.wait(20.0) == 0


@pytest.mark.parametrize("arguments", [("restart",), ("restart", "--supervisor", "agent:main:local:dm")])
def test_either_sessions_or_the_supervisor_are_named(scene: Scene, arguments: tuple[str, ...]) -> None:
    done = scene.daemon.ctl(*arguments)
    assert done.returncode == 2
    assert "name SESSIONS, or --supervisor" in done.stderr


def test_without_a_hermesd_there_is_nothing_to_restart(scene: Scene) -> None:
    assert scene.daemon.ctl("restart", "--supervisor").returncode == 7


def test_a_start_that_fails_leaves_the_workers_to_the_next_one(scene: Scene) -> None:
    scene.start()
    gate = Gate(scene.place)
    message, before = busy(scene, "one", gate)
    scene.daemon.kill()
    scene.fake.close()
    scene.configure_ours(containment="job")  # which no Linux has: the keeper does not come up
    with pytest.raises(CannotStart):
        scene.daemon.start()
    scene.configure_ours(containment="subreaper")
    scene.start()
    gate.open()
    assert scene.fake.final(message, chat="one")["text"] == gate.ANSWER
    assert scene.worker("one")["pid"] == before["pid"]


def test_replace_ends_the_workers_of_the_one_that_it_replaces(scene: Scene) -> None:
    scene.start()
    scene.fake.talk("hello", chat="one")
    before = scene.worker("one")
    scene.fake.close()
    scene.daemon.start("--replace")
    assert not Path(f"/proc/{before['pid']}").exists()
    assert scene.daemon.json("status")["workers"]["adopted"] == 0


def test_an_api_stream_is_told_at_a_restart_that_its_turn_goes_on() -> None:
    port = free_port()
    api = {"api_server": {"enabled": True, "extra": {"port": port}}}
    with Scene(ours={"adopt_timeout": "20s", **GATED}, platforms=api) as scene:
        scene.start()
        gate = Gate(scene.place)

        def ask(caller: http.client.HTTPConnection, text: str) -> http.client.HTTPResponse:
            body = {"model": "hermes-agent", "stream": True, "messages": [{"role": "user", "content": text}]}
            headers = {"Content-Type": "application/json", "X-Hermes-Session-Id": "kitchen"}
            caller.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            return caller.getresponse()

        def events(response: http.client.HTTPResponse) -> list[dict[str, Any]]:
            lines = response.read().decode().splitlines()
            return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as caller:
            response = ask(caller, gate.text)
            wait_until(lambda: any(map(turn_runs, scene.daemon.workers())), what="a running turn")
            assert scene.daemon.ctl("restart", "--supervisor").returncode == 0
            error = events(response)[-1]["error"]
        assert error == {
            "message": "hermesd closes this connection; the request was accepted: it goes on, and its answer will be "
            "in session kitchen",
            "type": "server_error", "param": None, "code": "connection_closing",
        }  # fmt: skip
        gate.open()
        wait_until(lambda: scene.daemon.workers()[0]["state"] == "idle", what="the end of the turn")
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as caller:
            chunks = events(ask(caller, "!history"))
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert f"assistant: {gate.ANSWER}" in said


def test_the_caller_of_a_stateless_request_is_gone_and_so_is_its_worker() -> None:
    port = free_port()
    api = {"api_server": {"enabled": True, "extra": {"port": port}}}
    with Scene(ours={"containment": "subreaper", "adopt_timeout": "20s"}, platforms=api) as scene:
        scene.start()
        body = {"model": "hermes-agent", "messages": [{"role": "user", "content": "!sleep 60"}]}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        caller = subprocess.Popen([sys.executable, "-c", CALLER, url, json.dumps(body)], stderr=subprocess.DEVNULL)
        with caller:
            row = wait_until(lambda: next(filter(turn_runs, scene.daemon.workers()), None))
            scene.daemon.kill()
            assert caller.wait(10.0) != 0
        scene.start()
        wait_until(lambda: not Path(f"/proc/{row['pid']}").exists())
        wait_until(lambda: scene.daemon.workers() == [], what="its container is empty, too")


def test_a_call_of_a_shared_server_ends_with_its_hermesd_and_the_next_one_has_a_new_process(scene: Scene) -> None:
    scene.configure(one={**scene.hostile("be_plain"), "scope": "host"})
    scene.start()
    assert scene.fake.talk("!call one.echo", chat="bob") == "echo: {}"
    message = scene.fake.say('!call one.slow {"seconds": 600}', chat="ann")
    wait_until(lambda: [row for row in held(scene) if row["state"] == "busy"], what="the call")
    (before,) = held(scene)
    workers = {chat: scene.worker(chat)["pid"] for chat in ("ann", "bob")}
    scene.daemon.kill()
    scene.fake.close()
    scene.start()
    told = scene.fake.final(message, chat="ann")["text"]
    assert "hermesd was started anew during the call, which may have had its effect" in told
    scene.roll.wait_alive(0)
    assert scene.fake.talk("!call one.echo", chat="bob") == "echo: {}"
    assert scene.fake.talk("!call one.echo", chat="ann") == "echo: {}"
    (after,) = held(scene)
    assert after["pid"] != before["pid"]
    assert len(scene.roll.alive()) == 1
    assert {chat: scene.worker(chat)["pid"] for chat in workers} == workers


def held(scene: Scene) -> list[dict[str, Any]]:
    """The workers that hold a shared server."""
    return [row for row in scene.daemon.ask("ps", tree=False)["workers"] if row.get("serves")]
