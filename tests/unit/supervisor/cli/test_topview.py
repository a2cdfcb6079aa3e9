"""What top shows, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from hermesd.supervisor.cli.render import Paint
from hermesd.supervisor.cli.topview import Sample, View, measured, press, screen
from hermesd.supervisor.control.shapes import PsDocument, StatusDocument

PLAIN = Paint(on=False)


@pytest.mark.parametrize(
    ("keys", "view"),
    [
        ("P", View(sort="cpu")),
        ("M", View(sort="mem")),
        ("Q", View(sort="queue")),
        ("T", View(sort="cpu-time")),
        ("t", View(tree=True)),
        ("tt", View()),
        (" ", View(paused=True)),
        ("  ", View()),
        ("?", View(help=True)),
        ("??", View()),
        ("q", View(over=True)),
        ("Mt x\x00", View(sort="mem", tree=True, paused=True)),
    ],
)
def test_keys_change_the_view(keys: str, view: View) -> None:
    pressed = View()
    for key in keys:
        pressed = press(pressed, key)
    assert pressed == view


def test_cpu_is_measured_between_two_samples_by_the_clock_of_hermesd(ps_document: Callable[..., PsDocument]) -> None:
    before, after = ps_document(at=100.0), ps_document(at=102.0)
    after["workers"][0]["cpu_seconds"] += 3.0
    after["supervisor"]["cpu_seconds"] += 0.1
    document = measured(before, after)
    assert document["workers"][0]["cpu_percent"] == pytest.approx(150.0)
    assert document["workers"][1]["cpu_percent"] == 0.0
    assert document["supervisor"]["cpu_percent"] == pytest.approx(5.0)
    assert after["workers"][0]["cpu_percent"] == 98.7, "the sample itself must stay as it was"


def test_the_machine_is_measured_between_two_samples_too(
    ps_document: Callable[..., PsDocument], status_document: Callable[..., StatusDocument], now: datetime
) -> None:
    before, after = ps_document(at=100.0), ps_document(at=102.0)
    after["host"]["cpu_seconds"] += 1.0
    document = measured(before, after)
    assert document["host"]["cpu_percent"] == pytest.approx(25.0), "one second of the four that two cores had"
    assert after["host"]["cpu_percent"] is None
    lines = screen(Sample(document, status_document()), View(), now, PLAIN, 200)
    assert lines[1] == "host: 2 cores, CPU 25 %, load 1.25, memory 3.0G of 8.0G, disk 40G of 100G"


def test_a_new_worker_keeps_the_figure_that_hermesd_gave_it(ps_document: Callable[..., PsDocument]) -> None:
    before, after = ps_document(at=100.0), ps_document(at=101.0)
    before["workers"].pop(0)
    assert measured(before, after)["workers"][0]["cpu_percent"] == 98.7
    assert measured(before, after)["workers"][2]["cpu_percent"] is None


def test_the_same_sample_twice_keeps_all_figures(ps_document: Callable[..., PsDocument]) -> None:
    assert measured(ps_document(), ps_document()) == ps_document()


def test_a_new_keeper_is_not_measured_against_the_old_one(ps_document: Callable[..., PsDocument]) -> None:
    before, after = ps_document(at=100.0), ps_document(at=101.0)
    assert before["keeper"] is not None
    before["keeper"] = {**before["keeper"], "pid": 7, "cpu_seconds": 99.0}
    keeper = measured(before, after)["keeper"]
    assert keeper is not None
    assert keeper["cpu_percent"] == 0.5


def test_the_screen_has_the_busiest_first_and_ourselves_below(
    ps_document: Callable[..., PsDocument], status_document: Callable[..., StatusDocument], now: datetime
) -> None:
    document = ps_document()
    document["workers"].reverse()
    lines = screen(Sample(document, status_document()), View(), now, PLAIN, 200)
    assert lines[0] == (
        "hermesd 0.1.0, pid 300, running for 2d 4h, loop 0.3 ms late (p99); 1 of 8 turns running, 0 waiting"
    )
    assert lines[1] == "host: 2 cores, load 1.25, memory 3.0G of 8.0G, disk 40G of 100G"
    assert lines[2] == "by cpu; 2 workers, 1 session without one; CPU and memory from cgroup (exact, with the dead)"
    assert [line.split()[0] for line in lines[5:]] == [
        "agent:main:telegram:dm:42", "agent:main:local:dm", "agent:main:discord:dm:7", "hermesd", "keeper",
    ]  # fmt: skip


def test_trouble_help_and_pause_are_said(
    ps_document: Callable[..., PsDocument], status_document: Callable[..., StatusDocument], now: datetime
) -> None:
    view = View(paused=True, help=True)
    text = "\n".join(screen(Sample(ps_document(), status_document()), view, now, PLAIN, 80, "no answer"))
    assert "paused" in text
    assert "no answer" in text
    assert "q      quit" in text
