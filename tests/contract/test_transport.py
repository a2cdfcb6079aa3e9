"""What `hermesd.ipc.transport` promises, over ZeroMQ and over the pair within one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hermesd.ipc.errors import LocalError
from hermesd.ipc.memory import MemoryDealer, MemoryRouter
from hermesd.ipc.sockets import Dealer, Router
from hermesd.ipc.transport import DealerEnd, RouterEnd


class Ends:
    """A router that keeps what arrives, and the dealers of a test."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.arrived: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        self.on_frame: Callable[[bytes, bytes], None] = lambda identity, frame: self.arrived.put_nowait(
            (identity, frame)
        )
        self.dealers: list[DealerEnd] = []
        self.router: RouterEnd
        self.connect: Callable[[bytes], DealerEnd]
        if kind == "zmq":
            router = Router(f"ipc://{directory}/run/r.sock", lambda *parts: self.on_frame(*parts))
            self.router, self.connect = router, lambda identity: Dealer(router.endpoint, identity)
        else:
            memory = MemoryRouter(lambda *parts: self.on_frame(*parts), asyncio.get_running_loop())
            self.router, self.connect = memory, lambda identity: MemoryDealer(memory, identity)

    def dealer(self, identity: bytes) -> DealerEnd:
        self.dealers.append(self.connect(identity))
        return self.dealers[-1]

    async def greeted(self, identity: bytes) -> DealerEnd:
        """A dealer that the router has heard of."""
        dealer = self.dealer(identity)
        await until(lambda: dealer.send(b"hello"))
        assert await asyncio.wait_for(self.arrived.get(), 30) == (identity, b"hello")
        return dealer


async def until(condition: Callable[[], object]) -> None:
    """Ask again and again, as a link does: ZeroMQ has no event for "this peer can be sent to now"."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def received(dealer: DealerEnd, count: int) -> list[bytes]:
    def receive() -> list[bytes]:
        frames: list[bytes] = []
        deadline = time.monotonic() + 30
        while len(frames) < count and time.monotonic() < deadline:
            dealer.poll(deadline - time.monotonic())
            frames += dealer.recv_all()
        return frames

    return await asyncio.to_thread(receive)


@pytest.fixture(params=["zmq", "memory"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    made = Ends(request.param, tmp_path)
    yield made
    for dealer in made.dealers:
        dealer.close()
    made.router.close()


async def test_frames_go_both_ways_in_order(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    frames = [str(number).encode() for number in range(600)]
    for frame in frames:
        await until(lambda frame=frame: dealer.send(frame))  # type: ignore[misc]
    assert [await asyncio.wait_for(ends.arrived.get(), 30) for _ in frames] == [(b"w1", frame) for frame in frames]
    for frame in frames:
        await until(lambda frame=frame: ends.router.send(b"w1", frame))  # type: ignore[misc]
    assert await received(dealer, len(frames)) == frames


async def test_each_dealer_gets_its_own(ends: Ends) -> None:
    one, other = await ends.greeted(b"w1"), await ends.greeted(b"w2")
    assert ends.router.send(b"w1", b"for one")
    assert ends.router.send(b"w2", b"for other")
    assert await received(one, 1) == [b"for one"]
    assert await received(other, 1) == [b"for other"]


async def test_an_answer_from_within_the_handler_arrives(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")

    def answer(identity: bytes, frame: bytes) -> None:
        ends.router.send(identity, b"re: " + frame)

    ends.on_frame = answer
    assert dealer.send(b"ping")
    assert await received(dealer, 1) == [b"re: ping"]


async def test_a_peer_that_is_not_there_takes_nothing(ends: Ends) -> None:
    assert ends.router.send(b"nobody", b"x") is False


async def test_a_handler_that_raises_does_not_stop_the_others(ends: Ends) -> None:
    one, other = await ends.greeted(b"w1"), await ends.greeted(b"w2")
    keep = ends.on_frame

    def handle(identity: bytes, frame: bytes) -> None:
        if identity == b"w1":
            raise ValueError("what w1 sends is not understood")
        keep(identity, frame)

    ends.on_frame = handle
    assert one.send(b"bad")
    assert other.send(b"good")
    assert await asyncio.wait_for(ends.arrived.get(), 30) == (b"w2", b"good")


async def test_the_newest_dealer_of_an_identity_is_served(ends: Ends) -> None:
    await ends.greeted(b"w1")
    newer = await ends.greeted(b"w1")
    await until(lambda: ends.router.send(b"w1", b"for the newer"))
    assert await received(newer, 1) == [b"for the newer"]


async def test_a_dealer_that_closed_takes_nothing(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    dealer.close()
    await until(lambda: not ends.router.send(b"w1", b"x"))


async def test_poll_waits_no_longer_than_its_timeout(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    dealer.poll(0)  # it may end early once: that the connection was made is news as well
    started = time.monotonic()
    assert await asyncio.to_thread(dealer.poll, 0.05) == (False, False)
    assert dealer.poll(0) == (False, False)
    assert 0.049 < time.monotonic() - started < 20


async def test_many_wakes_become_one_and_none_is_lost(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    for _ in range(10):
        dealer.wake()
    assert dealer.poll(5) == (False, True)
    assert dealer.poll(0) == (False, False)
    waiting = asyncio.create_task(asyncio.to_thread(dealer.poll, 30))
    dealer.wake()
    assert await asyncio.wait_for(waiting, 30) == (False, True)


async def test_what_a_thread_put_before_its_wake_is_seen_after_the_poll(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    count = 5000
    todo: list[int] = []

    def produce() -> None:
        for number in range(count):
            todo.append(number)
            dealer.wake()

    def consume() -> int:
        seen = 0
        deadline = time.monotonic() + 30
        while seen < count:
            _readable, woken = dealer.poll(30)
            if woken:
                seen = len(todo)
            elif time.monotonic() > deadline:
                return seen  # a wake got lost: the last number was never announced
        return seen

    producer = threading.Thread(target=produce)
    producer.start()
    assert await asyncio.to_thread(consume) == count
    producer.join()


async def test_closing_twice_and_waking_a_closed_dealer_do_no_harm(ends: Ends) -> None:
    dealer = await ends.greeted(b"w1")
    for _ in range(2):
        dealer.close()
        dealer.wake()
    for _ in range(2):
        ends.router.close()
    with pytest.raises(LocalError, match="closed"):
        dealer.send(b"x")
    with pytest.raises(LocalError, match="closed"):
        ends.router.send(b"w1", b"x")
