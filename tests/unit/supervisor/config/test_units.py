from __future__ import annotations

import pytest

from hermesd.supervisor.config.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("1k", 1024), ("512M", 512 << 20), ("2G", 2 << 30), ("2GB", 2 << 30), ("2 GiB", 2 << 30),
     ("1.5g", 3 << 29), ("1T", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "2GBB", "-1G", "1,5G", "1G2M", "0x10", "inf", "nan"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("10s", 10), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("2 d", 172800),
     ("250ms", 0.25), ("1m 5s", 65), ("5min", 300), ("30sec", 30)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "-5s", "5x", "1h30", "5 5", "inf", "1e3"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)
