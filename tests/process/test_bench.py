"""``scripts/bench`` measures what it says, writes it down, and leaves nothing. How fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.aimock import has_aimock
from harness.bench.catalogue import MEASUREMENTS
from harness.bench.row import Row, Series
from harness.hermes.scene import why_not
from harness.lacking import lacking
from harness.matrix import synapse

TESTS = Path(__file__).parents[1]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The bench's TMPDIR: a test's own directory has a name that is too long for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="hd-") as name:
        yield Path(name)


def bench(home: Path, temporary: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(TESTS), "TMPDIR": str(temporary),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "harness.bench", *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_row_has_numbers(name: str, tmp_path: Path, temporary: Path) -> None:
    if name in ("failing", "llm-sessions") and not has_aimock():
        lacking("no aimock: npm ci --prefix tests/node")
    if name == "latency":
        synapse.python()
    if name in ("latency", "one-process") and (reason := why_not()):
        lacking(reason)
    written = tmp_path / "figures.json"
    done = bench(tmp_path, temporary, name, "--quick", "--json", str(written))
    assert done.returncode == 0, done.stderr
    figures = json.loads(written.read_text("utf-8"))
    assert figures["schema"] == 1
    assert figures["machine"]["cpus"] > 0
    assert figures["rows"]
    for row in figures["rows"]:
        assert row["measurement"] == name
        assert row["unit"]
        assert row["better"] in ("lower", "higher")
        assert row["title"] in done.stdout
        for series in (row["ours"], *row["baselines"]):
            assert len(series["values"]) == row["runs"] == 1
            assert 0 < series["min"] <= series["median"] <= series["max"]
            assert series["name"] in done.stdout
        assert all(baseline["ratio"] > 0 for baseline in row["baselines"])
    left = [path for path in temporary.iterdir() if not path.name.startswith("pymp-")]
    assert left == []
    assert not (tmp_path / ".hermes").exists()


def test_a_row_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, temporary: Path) -> None:
    done = bench(tmp_path, temporary, "strat")
    assert done.returncode == 2
    assert "strat" in done.stderr
    assert all(name in done.stderr for name in MEASUREMENTS)


def test_a_ratio_says_how_many_times_better_ours_is() -> None:
    ours, other = Series("ours", [2.0, 1.0, 9.0]), Series("other", [8.0])
    assert Row("x", "a time", "ms", ours, (other,)).ratio(other) == 4.0
    assert Row("x", "a rate", "1/s", ours, (other,), lower_is_better=False).ratio(other) == 0.25
