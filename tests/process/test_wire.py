"""The wire of an installed hermesd: over TCP, against an agent that forges, and with one that floods."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import turn_runs
from harness.figures import allowed, quantile
from harness.ports import free_port
from harness.scene import PROGRAMS, Scene

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import UP, Hello
from hermesd.ipc.sockets import CurveClient, Dealer, new_keys

FLOOD_SECONDS = 1.5
GREW = 96 << 20  # bytes that hermesd may have grown by while a client reads nothing of a flood


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


# ---- over TCP ---------------------------------------------------------------------------------------------------


def test_workers_work_over_tcp_and_nobody_without_a_listed_key_gets_in() -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    with Scene(ours={"workers": {"endpoint": endpoint}, "agent": "evil:make", "agent_path": [str(PROGRAMS)]}) as scene:
        scene.start()
        assert scene.fake.talk("hello", chat="a").startswith("heard hello")
        curve = scene.daemon.home / "hermesd" / "run" / "curve"
        public = (curve / "hermesd.key").read_bytes().split()[0]
        assert {path.stat().st_mode & 0o777 for path in curve.iterdir()} == {0o600}
        assert len(list(curve.glob("*.pub"))) == 2  # of the session's worker and the spare

        strangers = Dealer(endpoint, b"w1-0000.stranger", security=CurveClient(*new_keys(), public))
        with socket.create_connection(("127.0.0.1", port)) as plain:
            try:
                plain.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + bytes(48))
                until(lambda: scene.daemon.json("status")["wire"]["refused_keys"] > 0)
                assert not strangers.send(Codec(*UP).encode(Hello("w1", "0" * 32, 1, 1, "")))
                plain.settimeout(10.0)
                said = b""
                while piece := plain.recv(4096):  # no more than a greeting, which names CURVE; and then the end
                    said += piece
                assert len(said) <= 64
            finally:
                strangers.close()

        assert scene.fake.talk("knock", chat="a") == "heard 0 frames"
        # A listed key under a name that is nobody's; on a connection of its own, which the answer may overtake.
        until(lambda: scene.daemon.json("status")["wire"]["foreign_frames"] >= 1)
        wire = scene.daemon.json("status")["wire"]
        assert wire["refused_keys"] >= 2
        assert wire["refused_hellos"] == wire["false_claims"] == 0
        (warning,) = (one for one in scene.daemon.json("status")["warnings"] if one["id"] == "wire")
        assert "refused keys" in warning["message"]
        assert scene.fake.talk("again", chat="a").startswith("heard again")


def test_over_tcp_a_worker_finds_the_hermesd_that_takes_over() -> None:
    ours = {"workers": {"endpoint": f"tcp://127.0.0.1:{free_port()}"}, "adopt_timeout": "60s"}
    with Scene(ours=ours) as scene:
        scene.start()
        scene.fake.talk("hello", chat="a")
        message = scene.fake.say("!sleep 1.5", chat="a")
        until(lambda: turn_runs(scene.worker("a")))
        before = scene.worker("a")["pid"]
        scene.daemon.kill()
        scene.fake.close()
        scene.start()
        assert scene.fake.final(message, chat="a")["text"].startswith("Slept for 1.5 s")
        assert scene.worker("a")["pid"] == before
        scene.fake.talk("hello", chat="b")  # a new worker has a key that the new hermesd made


def test_an_address_that_is_taken_or_none_is_refused_with_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Scene(ours={"workers": {"endpoint": f"tcp://127.0.0.1:{port}"}}) as scene:
            done = _run(scene, "--daemon")
            assert done.returncode == 1
            assert f"cannot bind tcp://127.0.0.1:{port}: Address already in use" in done.stderr
    for wrong in ("tcp://0.0.0.0:5555", "tcp://127.0.0.1:0", "tcp://127.0.0.1", "ipc:///tmp/x", "tcp://localhost:1"):
        with Scene(ours={"workers": {"endpoint": wrong}}) as scene:
            done = _run(scene, "--check")
            assert done.returncode == 78
            assert "hermesd.workers.endpoint" in done.stderr
            assert "tcp://127.0.0.1:5555" in done.stderr


def _run(scene: Scene, *args: str) -> subprocess.CompletedProcess[str]:
    command = scene.daemon.command("hermesd", *args)
    return subprocess.run(command, env=scene.daemon.env, capture_output=True, text=True, timeout=60, check=False)


# ---- an agent that speaks for others ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil() -> Iterator[Scene]:
    with Scene(ours={"agent": "evil:make", "agent_path": [str(PROGRAMS)]}) as scene:
        yield scene.start()


def test_an_agent_that_speaks_for_another_session_loses_its_worker_and_changes_nothing(evil: Scene) -> None:
    kinds = ("accept", "delta", "finished", "send", "ask")
    evil.fake.talk("hello", chat="victim")
    waiting = evil.fake.say("wait 3", chat="victim")
    row: dict[str, Any] = {}
    until(lambda: (row.update(evil.worker("victim")), row["turn"])[1])
    turn = row["turn"]
    with ThreadPoolExecutor(len(kinds)) as at_once:
        ends = list(at_once.map(lambda kind: evil.fake.talk(f"as-own {kind} {turn}", chat=f"forger-{kind}"), kinds))
    assert all("killed by SIGKILL" in end for end in ends), ends
    assert evil.daemon.json("status")["wire"]["false_claims"] >= len(kinds)
    assert evil.fake.final(waiting, chat="victim")["text"] == f"heard wait 3, turn {turn}"
    assert [one["text"] for one in evil.fake.shown(chat="victim")][1:] == [f"heard wait 3, turn {turn}"]
    assert evil.worker("victim")["pid"] == row["pid"]
    for kind in kinds:
        log = evil.daemon.ctl("--json", "logs", "--session", f"forger-{kind}", "--level", "ERROR").stdout
        assert f"speaks for others: its {kind} is about turn '{turn}'" in log
    assert evil.fake.talk("hello", chat="forger-ask").startswith("heard hello")  # it goes on in another worker


def test_a_guessed_name_is_nobody(evil: Scene) -> None:
    evil.fake.talk("hello", chat="named")
    before = evil.daemon.json("status")["wire"]
    name = evil.worker("named")["worker"]
    assert evil.fake.talk(f"guess {name}", chat="guesser") == "sent 6 frames and heard nothing"
    until(lambda: evil.daemon.json("status")["wire"]["foreign_frames"] - before["foreign_frames"] >= 6)
    after = evil.daemon.json("status")["wire"]
    assert after["foreign_frames"] - before["foreign_frames"] == 6
    assert after["refused_hellos"] == before["refused_hellos"]
    assert [one["text"].split(",")[0] for one in evil.fake.shown(chat="named")] == ["heard hello"]
    (finding,) = (one for one in evil.daemon.json("doctor")["findings"] if one["id"] == "wire")
    assert "frames of nobody" in finding["message"]


# ---- an agent that floods ---------------------------------------------------------------------------------------


@pytest.mark.alone("compares answers beside a flood with those before it")
def test_a_flood_of_deltas_delays_nobodys_answer_not_even_its_own() -> None:
    port = free_port()
    platforms = {"api_server": {"enabled": True, "extra": {"port": port}}}
    with Scene(ours={"agent": "loud:make", "agent_path": [str(PROGRAMS)]}, platforms=platforms) as scene:
        scene.start()
        for chat in ("quiet", "flood"):
            scene.fake.talk("hello", chat=chat)
        pids = (scene.daemon.pid, scene.worker("quiet")["pid"])
        quiet = [_timed(scene, pids) for _ in range(40)]
        before, waited = _memory(scene.daemon.pid), _waited_for_a_core(scene.daemon.pid)
        with _SlowReader(port, f"deltas {2 * FLOOD_SECONDS} 2000"):
            flood = scene.fake.say(f"deltas {FLOOD_SECONDS} 1", chat="flood")
            until_ended = time.monotonic() + FLOOD_SECONDS
            beside = []
            while time.monotonic() < until_ended:
                beside.append(_timed(scene, pids))
            answer = scene.fake.final(flood, chat="flood")
            grown, waited = _memory(scene.daemon.pid) - before, _waited_for_a_core(scene.daemon.pid) - waited
        count, ended = json.loads(answer["text"])
        worst = max(took for took, _ in beside)
        own = {"quiet": [own for _, own in quiet], "beside": [own for _, own in beside]}
        figures = {
            **{name: quantile(values, 0.9) for name, values in own.items()}, "worst": worst,
            "answers": len(beside), "waited": waited, "deltas": count, "late": answer["at"] - ended, "grown": grown,
        }  # fmt: skip
        assert count > 1000, figures
        assert answer["at"] - ended < allowed(1.0, 2 * worst), figures
        # What piles up while hermesd gets no core has to be worked off.
        assert figures["beside"] < allowed(0.1, max(10 * figures["quiet"], waited)), figures
        assert worst < allowed(2.0, 20 * max(took for took, _ in quiet)), figures
        assert grown < GREW, figures


class _SlowReader:
    """A client of the API that asks for a streamed answer and then reads nothing of it."""

    def __init__(self, port: int, text: str):
        body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}).encode()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert self._socket.recv(15) == b"HTTP/1.1 200 OK"

    def __enter__(self) -> _SlowReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


def _timed(scene: Scene, pids: tuple[int, ...]) -> tuple[float, float]:
    """Seconds until the answer; and those of them in which these processes did not wait for a core.

    The second is what they owe to each other, however much else the machine has to do.
    """
    began, waited = time.monotonic(), sum(map(_waited_for_a_core, pids))
    scene.fake.talk("hello", chat="quiet")
    took = time.monotonic() - began
    return took, max(0.0, took - (sum(map(_waited_for_a_core, pids)) - waited))


def _waited_for_a_core(pid: int) -> float:
    """Seconds of all its threads: the second figure of schedstat (Documentation/scheduler/sched-stats.rst)."""
    return sum(int(path.read_text().split()[1]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
