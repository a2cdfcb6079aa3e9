"""`hermesd.ipc.memory`: what only the pair within one process does. The shared behaviour is in tests/contract."""

from __future__ import annotations

import logging

import pytest

from hermesd.ipc.memory import MemoryDealer, MemoryRouter


def test_without_a_loop_frames_are_delivered_when_the_test_says_so() -> None:
    got: list[tuple[bytes, bytes]] = []
    router = MemoryRouter(lambda identity, frame: got.append((identity, frame)))
    dealer = MemoryDealer(router, b"w1")
    assert dealer.send(b"a")
    assert got == []
    assert router.drain() == 1
    assert got == [(b"w1", b"a")]
    assert router.drain() == 0


def test_a_full_queue_takes_nothing_until_there_is_room() -> None:
    router = MemoryRouter(lambda _identity, _frame: None, capacity=2)
    dealer = MemoryDealer(router, b"w1")
    assert [dealer.send(b"x") for _ in range(3)] == [True, True, False]
    assert [router.send(b"w1", b"x") for _ in range(3)] == [True, True, False]
    router.drain()
    assert dealer.recv_all() == [b"x", b"x"]
    assert dealer.send(b"x")
    assert router.send(b"w1", b"x")


def test_what_a_handler_raises_is_logged_and_the_next_frame_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes] = []

    def handle(_identity: bytes, frame: bytes) -> None:
        got.append(frame)
        if frame == b"bad":
            raise ValueError("no")

    router = MemoryRouter(handle)
    dealer = MemoryDealer(router, b"w1")
    for frame in (b"bad", b"good"):
        dealer.send(frame)
    with caplog.at_level(logging.ERROR):
        router.drain()
    assert got == [b"bad", b"good"]
    assert "could not be handled" in caplog.text
