"""`hermesd.ipc.framing`: frames and descriptors over real socket pairs and made-up splits."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.ipc.errors import LocalError, PeerError
from hermesd.ipc.framing import Deframer, FrameWriter, Parcel, frame, receive, recv_frame, send_frame


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def soon() -> float:
    return time.monotonic() + 30


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def pipe_end(text: bytes) -> int:
    """The read end of a closed pipe that holds a text."""
    read_end, write_end = os.pipe()
    os.write(write_end, text)
    os.close(write_end)
    return read_end


def contents(descriptor: int | None) -> bytes:
    assert descriptor is not None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_come_out_whole_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, payloads))
    deframer = Deframer()
    seen: list[bytes] = []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        seen += deframer.feed(stream[:count])
        stream = stream[count:]
    assert seen == payloads
    assert not deframer.incomplete


def test_the_length_is_four_bytes_big_endian() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


def test_a_frame_that_is_too_long_is_refused_on_both_sides_before_it_is_held() -> None:
    with pytest.raises(LocalError, match="it has 11 bytes, 10 at most"):
        frame(b"x" * 11, max_frame=10)
    deframer = Deframer(10)
    assert deframer.feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(PeerError, match="11 bytes are announced, 10 at most"):
        deframer.feed(frame(b"x" * 11)[:4])
    with pytest.raises(PeerError, match="a frame before was too long"):
        deframer.feed(frame(b"fine"))


def test_a_stream_that_ends_inside_a_frame_is_seen() -> None:
    deframer = Deframer()
    deframer.feed(frame(b"abc")[:-1])
    assert deframer.incomplete


def test_a_client_sends_and_receives_frame_by_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    for payload in (b"first", b"", b"last"):
        send_frame(one, payload, soon())
    assert [recv_frame(other, soon()) for _ in range(3)] == [b"first", b"", b"last"]


def test_a_large_frame_passes_a_small_buffer(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    payload = os.urandom(3_000_000)
    sender = threading.Thread(target=send_frame, args=(one, payload, soon()))
    sender.start()
    assert recv_frame(other, soon()) == payload
    sender.join()


def test_a_client_gives_up_at_its_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.send(b"\x00\x00")
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        recv_frame(other, started + 0.05)
    with pytest.raises(TimeoutError):
        send_frame(one, b"x" * 3_000_000, time.monotonic() + 0.05)
    with pytest.raises(TimeoutError, match="did not answer in time"):
        recv_frame(other, started)
    assert time.monotonic() - started < 20


def test_a_client_hears_of_a_closed_connection_and_of_a_frame_too_long(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    one, other = pair
    one.sendall(b"\x00\x00\x00\x09abc")
    one.close()
    with pytest.raises(PeerError, match="9 bytes are announced, 5 at most"):
        recv_frame(other, soon(), max_frame=5)
    with pytest.raises(ConnectionError, match="closed the connection"):
        recv_frame(other, soon())


def test_a_descriptor_arrives_with_its_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    before = open_descriptors()
    send_frame(one, b"plain", soon())
    for name in (b"a", b"b"):
        descriptor = pipe_end(b"pipe " + name)
        send_frame(one, b"with " + name, soon(), descriptor)
        os.close(descriptor)
        send_frame(one, b"after " + name, soon())
    one.shutdown(socket.SHUT_WR)
    deframer = Deframer()
    seen: list[Parcel] = []
    while True:
        data, descriptors = receive(other)
        if not data:
            break
        assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
        seen += deframer.feed_with(data, descriptors)
    assert [parcel.payload for parcel in seen] == [b"plain", b"with a", b"after a", b"with b", b"after b"]
    assert [contents(parcel.descriptor) for parcel in seen if parcel.descriptor is not None] == [b"pipe a", b"pipe b"]
    assert [parcel.payload for parcel in seen if parcel.descriptor is not None] == [b"with a", b"with b"]
    assert open_descriptors() == before


def test_a_descriptor_waits_for_the_rest_of_a_large_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    payload = os.urandom(500_000)
    descriptor = pipe_end(b"spec")
    sender = threading.Thread(target=send_frame, args=(one, payload, soon(), descriptor))
    sender.start()
    deframer = Deframer()
    parcels: list[Parcel] = []
    while not parcels:
        parcels = deframer.feed_with(*receive(other))
    sender.join()
    os.close(descriptor)
    assert parcels[0].payload == payload
    assert contents(parcels[0].descriptor) == b"spec"


def test_a_reader_without_use_for_descriptors_closes_them(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    before = open_descriptors()
    descriptor = pipe_end(b"")
    send_frame(one, b"x" * 10, soon(), descriptor)
    os.close(descriptor)
    deframer = Deframer(max_frame=5)
    with pytest.raises(PeerError, match="announced"):
        deframer.feed_with(*receive(other))
    assert open_descriptors() == before


@pytest.mark.parametrize("count", [2, 4, 20])
def test_more_than_one_descriptor_is_refused_and_none_leaks(
    pair: tuple[socket.socket, socket.socket], count: int
) -> None:
    one, other = pair
    before = open_descriptors()
    descriptor = pipe_end(b"")
    socket.send_fds(one, [frame(b"x")], [descriptor] * count)
    os.close(descriptor)
    with pytest.raises(PeerError, match="one is allowed"):
        Deframer().feed_with(*receive(other))
    assert open_descriptors() == before


def test_a_descriptor_in_the_middle_of_a_frame_is_refused_and_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    one, other = pair
    before = open_descriptors()
    descriptor = pipe_end(b"")
    deframer = Deframer()
    one.sendall(frame(b"abcdef")[:5])
    assert deframer.feed_with(*receive(other)) == []
    socket.send_fds(one, [b"bcdef"], [descriptor])
    os.close(descriptor)
    with pytest.raises(PeerError, match="in the middle"):
        deframer.feed_with(*receive(other))
    assert open_descriptors() == before


def test_a_deframer_that_is_closed_closes_the_descriptor_it_holds(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    before = open_descriptors()
    descriptor = pipe_end(b"")
    socket.send_fds(one, [frame(b"abc")[:-1]], [descriptor])
    os.close(descriptor)
    deframer = Deframer()
    assert deframer.feed_with(*receive(other)) == []
    assert open_descriptors() == before + 1
    deframer.close()
    assert open_descriptors() == before


def test_a_writer_never_blocks_and_keeps_the_order(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.setblocking(False)
    before = open_descriptors()
    writer = FrameWriter(one)
    payloads = [os.urandom(size) for size in (10, 400_000, 0, 400_000, 5)]
    for index, payload in enumerate(payloads):
        writer.put(payload, pipe_end(str(index).encode()) if index in (1, 3, 4) else None)
    assert not writer.flush()
    deframer = Deframer()
    seen: list[Parcel] = []
    while len(seen) < len(payloads):
        writer.flush()
        seen += deframer.feed_with(*receive(other))
    assert writer.flush()
    assert [parcel.payload for parcel in seen] == payloads
    assert [index for index, parcel in enumerate(seen) if parcel.descriptor is not None] == [1, 3, 4]
    assert [contents(seen[index].descriptor) for index in (1, 3, 4)] == [b"1", b"3", b"4"]
    assert open_descriptors() == before


def test_a_writer_that_is_closed_closes_what_it_was_given(pair: tuple[socket.socket, socket.socket]) -> None:
    before = open_descriptors()
    writer = FrameWriter(pair[0], max_frame=5)
    writer.put(b"abc", pipe_end(b""))
    with pytest.raises(LocalError, match="6 bytes, 5 at most"):
        writer.put(b"abcdef")
    writer.close()
    assert writer.flush()
    assert open_descriptors() == before
