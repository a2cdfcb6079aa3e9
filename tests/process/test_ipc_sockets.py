"""`hermesd.ipc.sockets` between real processes: kills, reconnects, forks, and who may bind or connect."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket as stdlib_socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import zmq

from hermesd.ipc.codec import Codec
from hermesd.ipc.errors import LocalError
from hermesd.ipc.link import Link, Received
from hermesd.ipc.messages import DOWN, UP, Accept, Finished, Message, Send, StartTurn
from hermesd.ipc.sockets import CurveClient, CurveServer, Dealer, Router

CODEC = Codec(*UP, *DOWN)
PATIENCE = 60.0

WORKER = """
    import sys, time
    from hermesd.ipc.codec import Codec
    from hermesd.ipc.link import Link, Received
    from hermesd.ipc.messages import DOWN, UP, Accept, Finished, Send, StartTurn
    from hermesd.ipc.sockets import Dealer

    endpoint, identity, count = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
    dealer, link = Dealer(endpoint, identity), Link(Codec(*UP, *DOWN), window=16)
    for number in range(count):
        link.send(Send(f"{identity.decode()}-{number}", "t", "", "x" * 200))
    while True:
        link.flush(time.monotonic(), dealer.send)
        due = link.due()
        dealer.poll(None if due is None else max(0.0, due - time.monotonic()))
        for frame in dealer.recv_all():
            for event in link.receive(frame, time.monotonic()):
                if isinstance(event, Received) and isinstance(event.message, StartTurn):
                    link.send(Accept(event.message.turn))
                    link.send(Finished(event.message.turn, "done", event.message.text.upper()))
"""


async def until(condition: Callable[[], object]) -> None:
    """Ask again and again, as a link does: ZeroMQ has no event for "this peer can be sent to now"."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


class Supervisor:
    """A router with a link for each worker that ever spoke; settles everything at once."""

    def __init__(self, endpoint: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.links: dict[bytes, Link] = {}
        self.messages: dict[bytes, list[Message]] = {}
        self.changed = asyncio.Event()
        self.router = Router(endpoint, self.on_frame)
        self.timer: asyncio.TimerHandle | None = None

    def on_frame(self, identity: bytes, frame: bytes) -> None:
        link = self.links.setdefault(identity, Link(CODEC, window=16))
        for event in link.receive(frame, self.loop.time()):
            if isinstance(event, Received):
                self.messages.setdefault(identity, []).append(event.message)
                if event.message.DURABLE:
                    link.settle(event.seq)
        self.changed.set()
        self.flush()

    def send(self, identity: bytes, message: Message) -> None:
        self.links[identity].send(message)
        self.flush()

    def flush(self) -> None:
        for identity, link in self.links.items():
            link.flush(self.loop.time(), lambda frame, identity=identity: self.router.send(identity, frame))  # type: ignore[misc]
        times = [due for link in self.links.values() if (due := link.due()) is not None]
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(max(min(times), self.loop.time()), self.flush) if times else None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.router.close()


class Processes:
    """Worker processes of a test; killed and reaped at its end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, endpoint: str, identity: str, count: int = 0) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", textwrap.dedent(WORKER), endpoint, identity, str(count)]
        self.all.append(subprocess.Popen(argv))
        return self.all[-1]


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    made = Processes()
    yield made
    for process in made.all:
        process.kill()
        process.wait()


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/run/r.sock"


def numbers(messages: list[Message]) -> list[int]:
    return [int(message.id.rpartition("-")[2]) for message in messages if isinstance(message, Send)]


async def test_eight_workers_send_and_every_message_arrives_once_and_in_order(
    endpoint: str, processes: Processes
) -> None:
    supervisor = Supervisor(endpoint)
    for index in range(8):
        processes.start(endpoint, f"w{index}", 500)
    await supervisor.until(lambda: sum(map(len, supervisor.messages.values())) == 4000)
    assert all(numbers(messages) == list(range(500)) for messages in supervisor.messages.values())
    assert len(supervisor.messages) == 8
    supervisor.close()


async def test_a_turn_goes_to_the_worker_and_its_answer_back(endpoint: str, processes: Processes) -> None:
    supervisor = Supervisor(endpoint)
    processes.start(endpoint, "w1", 1)
    await supervisor.until(lambda: b"w1" in supervisor.messages)
    for turn in range(100):
        supervisor.send(b"w1", StartTurn(f"t{turn}", "hello", "ann"))
    await supervisor.until(lambda: len(supervisor.messages[b"w1"]) == 201)
    assert supervisor.messages[b"w1"][1:3] == [Accept("t0"), Finished("t0", "done", "HELLO")]
    assert supervisor.links[b"w1"].statistics().unacknowledged == 0
    supervisor.close()


async def test_what_a_killed_worker_had_queued_is_not_taken_for_delivered(endpoint: str, processes: Processes) -> None:
    supervisor = Supervisor(endpoint)
    process = processes.start(endpoint, "w1", 1)
    await supervisor.until(lambda: b"w1" in supervisor.messages)
    os.kill(process.pid, signal.SIGSTOP)
    for turn in range(10):
        supervisor.send(b"w1", StartTurn(f"t{turn}", "", ""))
    assert supervisor.links[b"w1"].statistics().sent >= 10
    process.kill()
    process.wait()
    await until(lambda: not supervisor.router.send(b"w1", b"x"))
    assert supervisor.links[b"w1"].statistics().unacknowledged == 10
    supervisor.close()


async def test_a_worker_goes_on_where_it_was_when_the_router_comes_back(endpoint: str, processes: Processes) -> None:
    supervisor = Supervisor(endpoint)
    processes.start(endpoint, "w1", 3000)
    for _ in range(5):
        seen = len(supervisor.messages.get(b"w1", []))
        await supervisor.until(lambda seen=seen: len(supervisor.messages.get(b"w1", [])) >= seen + 200)  # type: ignore[misc]
        supervisor.router.close()
        supervisor.router = Router(endpoint, supervisor.on_frame)
    await supervisor.until(lambda: len(supervisor.messages[b"w1"]) == 3000)
    assert numbers(supervisor.messages[b"w1"]) == list(range(3000))
    supervisor.close()


async def test_a_dealer_without_a_router_takes_nothing_and_queues_nothing(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    dealer = Dealer(endpoint, b"w1")
    assert not any(dealer.send(str(number).encode()) for number in range(50))
    got: list[bytes] = []
    router = Router(endpoint, lambda _identity, frame: got.append(frame))
    await until(lambda: dealer.send(b"now"))
    await until(lambda: got)
    assert got == [b"now"]
    dealer.close()
    router.close()


async def test_a_burst_larger_than_a_batch_is_drained_while_the_loop_still_runs(endpoint: str) -> None:
    batches: list[int] = [0]
    done = asyncio.Event()

    def handle(_identity: bytes, frame: bytes) -> None:
        batches[-1] += 1
        if frame == b"last":
            done.set()

    router = Router(endpoint, handle, high_water=5000)
    dealer = Dealer(router.endpoint, b"w1", high_water=5000)
    await until(lambda: dealer.send(b"first"))
    for _ in range(3000):
        assert dealer.send(b"x")
    assert dealer.send(b"last")

    async def turns() -> None:
        while not done.is_set():
            batches.append(0)
            await asyncio.sleep(0)

    await asyncio.wait_for(turns(), PATIENCE)
    dealer.close()
    router.close()
    assert sum(batches) == 3002
    # A batch of 256 that goes on in the next turn, and one more if new frames were announced in between.
    assert max(batches) <= 2 * 256


async def test_an_edge_that_a_send_consumed_is_not_missed(endpoint: str) -> None:
    """While a ROUTER that is idle sends, what arrives at that moment must be read without another message."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    router = Router(endpoint, lambda _identity, frame: arrived.put_nowait(frame))
    dealer = Dealer(router.endpoint, b"w1")
    await until(lambda: dealer.send(b"hello"))
    async with asyncio.timeout(PATIENCE):
        await arrived.get()
        for number in range(300):
            dealer.send(str(number).encode())
            for _ in range(number % 5):
                router.send(b"w1", b"tick")
            assert await arrived.get() == str(number).encode()
    dealer.close()
    router.close()


async def test_an_edge_that_a_send_of_another_thread_consumed_still_ends_a_poll(endpoint: str) -> None:
    said: asyncio.Queue[bytes] = asyncio.Queue()
    router = Router(endpoint, lambda _identity, frame: said.put_nowait(frame))
    dealer = Dealer(endpoint, b"w1")
    await until(lambda: dealer.send(b"here"))
    await asyncio.wait_for(said.get(), PATIENCE)
    while dealer.poll(0.05) != (False, False):
        assert dealer.recv_all() == []
    assert router.send(b"w1", b"down")
    assert select.select([dealer._fd], [], [], 5.0)[0], "the edge by which a poll ends that is running"
    dealer.look_again()  # also takes it, as a send may
    assert not select.select([dealer._fd], [], [], 0)[0]
    assert select.select([dealer._wakener.fd], [], [], 0)[0], "what ends that poll in its place"
    assert dealer.poll(5.0) == (True, True)
    assert dealer.recv_all() == [b"down"]
    dealer.look_again()
    assert dealer.poll(0) == (False, False)
    dealer.close()
    router.close()


async def test_a_frame_beyond_the_limit_ends_only_its_own_connection(endpoint: str) -> None:
    arrived: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
    router = Router(endpoint, lambda *parts: arrived.put_nowait(parts), max_frame=100_000)
    rude, polite = Dealer(router.endpoint, b"rude"), Dealer(router.endpoint, b"polite")
    async with asyncio.timeout(PATIENCE):
        for dealer in (rude, polite):
            await until(lambda dealer=dealer: dealer.send(b"hello"))  # type: ignore[misc]
            await arrived.get()
            dealer.poll(0)
        assert (rude.connections, polite.connections) == (1, 1)
        rude.send(b"x" * 100_001)
        # It is without one for 50 ms, which are easily missed; the connection that follows stays.
        await until(lambda: rude.poll(0) and rude.connections == 2)
        polite.send(b"x" * 100_000)
        assert await arrived.get() == (b"polite", b"x" * 100_000)
        polite.poll(0)
        assert polite.connections == 1
    rude.close()
    polite.close()
    router.close()


# ---- forks ------------------------------------------------------------------------------------------------------


async def test_a_fork_cannot_use_the_sockets_and_does_not_disturb_them(endpoint: str) -> None:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    router = Router(endpoint, lambda _identity, frame: arrived.put_nowait(frame))
    dealer = Dealer(router.endpoint, b"w1")
    await until(lambda: dealer.send(b"before"))
    async with asyncio.timeout(PATIENCE):
        assert await arrived.get() == b"before"
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (lambda: router.send(b"w1", b"x"), lambda: dealer.send(b"x"), dealer.recv_all):
                try:
                    use()
                except LocalError as error:
                    refused += "in its fork" in str(error)
            router.close()
            dealer.close()
            os._exit(refused)
        _pid, status = os.waitpid(child, 0)  # noqa: ASYNC222 - the child has a few calls to make
        assert os.waitstatus_to_exitcode(status) == 3
        assert dealer.send(b"after")
        assert await arrived.get() == b"after"
        assert router.send(b"w1", b"answer")
        await until(lambda: dealer.poll(0)[0])
    assert dealer.recv_all() == [b"answer"]
    dealer.close()
    router.close()


# ---- addresses --------------------------------------------------------------------------------------------------


async def test_the_socket_lies_in_a_directory_that_only_its_owner_enters_and_is_removed(
    endpoint: str, tmp_path: Path
) -> None:
    router = Router(endpoint, lambda _identity, _frame: None)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert (tmp_path / "run" / "r.sock").is_socket()
    router.close()
    assert not (tmp_path / "run" / "r.sock").exists()


async def test_a_stale_socket_file_does_not_hinder(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    with stdlib_socket.socket(stdlib_socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "run" / "r.sock"))
    router = Router(endpoint, lambda _identity, _frame: None)
    dealer = Dealer(router.endpoint, b"w1")
    await until(lambda: dealer.send(b"hello"))
    dealer.close()
    router.close()


async def test_a_router_that_closes_leaves_the_socket_file_of_its_successor(endpoint: str, tmp_path: Path) -> None:
    old = Router(endpoint, lambda _identity, _frame: None)
    new = Router(endpoint, lambda _identity, _frame: None)
    old.close()
    assert (tmp_path / "run" / "r.sock").is_socket()
    new.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ipc://{home}/" + "x" * 100, "bytes, 100 at most"),
        ("ipc://{home}/open/r.sock", "it has to be yours alone (mode 700), it has mode 755"),
        ("ipc://{home}/no/where/r.sock", "cannot bind in {home}/no/where: No such file or directory"),
        ("ipc://r.sock", "the path has to be absolute"),
        ("ipc://@abstract", "the path has to be absolute"),
        ("ipc://*", "the path has to be absolute"),
        ("tcp://127.0.0.1:0", "tcp needs CURVE keys"),
        ("inproc://x", "an address begins with ipc:// or tcp://"),
        ("/just/a/path", "an address begins with ipc:// or tcp://"),
    ],
)
async def test_an_unsafe_address_is_refused_with_a_sentence(tmp_path: Path, address: str, reason: str) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(LocalError) as caught:
        Router(address.format(home=tmp_path), lambda _identity, _frame: None)
    assert reason.format(home=tmp_path) in str(caught.value)


@pytest.mark.parametrize("identity", [b"", b"\x00w1", b"w" * 256])
def test_an_identity_that_zeromq_does_not_take_is_refused(endpoint: str, identity: bytes) -> None:
    with pytest.raises(LocalError, match="is no identity for ZeroMQ"):
        Dealer(endpoint, identity)


def test_a_dealer_does_not_connect_over_open_tcp() -> None:
    with pytest.raises(LocalError, match=r"cannot connect to tcp://.*: tcp needs CURVE keys"):
        Dealer("tcp://127.0.0.1:5555", b"w1")


# ---- tcp with keys ----------------------------------------------------------------------------------------------


async def test_over_tcp_only_listed_keys_get_in_and_nobody_without_one() -> None:
    server_public, server_secret = zmq.curve_keypair()
    listed, stranger = zmq.curve_keypair(), zmq.curve_keypair()
    arrived: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    def allowed(key: bytes) -> bool:
        asked.put_nowait(key)
        return key == listed[0]

    router = Router(
        "tcp://127.0.0.1:*", lambda *parts: arrived.put_nowait(parts), security=CurveServer(server_secret, allowed)
    )
    dealers = [
        Dealer(router.endpoint, b"stranger", security=CurveClient(*stranger, server_public)),
        Dealer(router.endpoint, b"deceived", security=CurveClient(*listed, zmq.curve_keypair()[0])),
        Dealer(router.endpoint, b"listed", security=CurveClient(*listed, server_public)),
    ]

    async with asyncio.timeout(PATIENCE):
        await until(lambda: dealers[2].send(b"hello"))
        assert await arrived.get() == (b"listed", b"hello")
        while await asked.get() != stranger[0]:
            pass
        assert router.send(b"listed", b"welcome")
        await until(lambda: dealers[2].poll(0)[0])
    assert dealers[2].recv_all() == [b"welcome"]
    assert not dealers[0].send(b"let me in")
    assert not dealers[1].send(b"are you my server?")
    with stdlib_socket.create_connection(("127.0.0.1", int(router.endpoint.rpartition(":")[2]))) as bare:
        bare.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert arrived.empty()
    for dealer in dealers:
        dealer.close()
    router.close()


def test_keys_do_not_show_in_a_traceback_or_log() -> None:
    public, secret = zmq.curve_keypair()
    for keys in (CurveServer(secret, lambda _key: False), CurveClient(public, secret, public)):
        assert secret.decode() not in repr(keys)
