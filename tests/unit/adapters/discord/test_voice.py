"""What Discord wants to know of a recording."""

from __future__ import annotations

import base64

import pytest
from harness.ogg import FRAME, PRE_SKIP, ogg_opus, page
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.discord.voice import POINTS, voice_of


def outline(data: bytes) -> list[int]:
    found = voice_of(data)
    assert found is not None
    return list(base64.b64decode(found.waveform))


def test_its_length_is_that_of_its_sound() -> None:
    found = voice_of(ogg_opus([40] * 123))
    assert found is not None
    assert found.seconds == pytest.approx(123 * 0.02)


def test_loud_is_where_the_packets_are_large() -> None:
    assert outline(ogg_opus([10] * 50 + [110] * 50 + [60] * 50)) == [0] * 10 + [255] * 10 + [128] * 10
    assert set(outline(ogg_opus([40] * 100))) == {128}
    assert len(outline(ogg_opus([10, 20] * 3000))) == POINTS


def test_a_packet_may_be_spread_over_pages() -> None:
    plain = ogg_opus([5])
    long = page(-1, 2, [bytes(510)], goes_on=True) + page(PRE_SKIP + 2 * FRAME, 3, [bytes(40), bytes(5)])
    head = plain[: plain.rindex(b"OggS")]
    found = voice_of(head + long)
    assert found is not None
    assert found.seconds == pytest.approx(0.04)
    assert outline(head + long) == [128]  # 40 ms are one point


@pytest.mark.parametrize(
    "data",
    [b"", b"ID3", b"OggS", ogg_opus([]), page(0, 0, [b"\x01vorbis" + bytes(20)]) + page(48_000, 1, [bytes(9)])],
    ids=["empty", "another kind", "cut", "silent", "Vorbis"],
)
def test_what_is_no_recording_is_none(data: bytes) -> None:
    assert voice_of(data) is None


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.data())
def test_a_damaged_file_does_no_harm(sizes: list[int], data: st.DataObject) -> None:
    whole = bytearray(ogg_opus(sizes))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = voice_of(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert found is None or (found.seconds > 0 and 0 < len(base64.b64decode(found.waveform)) <= POINTS)
