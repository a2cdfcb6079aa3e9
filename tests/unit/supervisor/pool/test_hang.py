from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.supervisor.pool.hang import (
    ASK_EVERY,
    ASKED_LATE,
    LONGEST_BEAT,
    OWN_PAUSE,
    SILENT_LATE,
    UNSEEN,
    WORKING,
    Signs,
    Silence,
    Verdict,
    beat_of,
    idle_beat_of,
    is_to_ask,
    judge,
    listened,
    overdue,
)

BUSY, IDLE = 1.0, 20.0
TIMEOUT = 60.0


@dataclass
class Worker:
    """A worker as the kernel and its heartbeats show it, looked at by a supervisor that may be away."""

    beat: float = BUSY
    hang_timeout: float = TIMEOUT
    kernel_tells: bool = True
    now: float = 1000.0
    heard_at: float = 1000.0
    told: float = 0.0
    cpu: float = 0.0
    silence: Silence = UNSEEN
    asked: int = 0

    def look(self, gap: float = 1.0, *, beats: bool = False, cpu: float = 0.0) -> Verdict:
        """Let ``gap`` seconds pass in which the worker uses ``cpu`` seconds, and look."""
        self.now += gap
        self.cpu += cpu
        if beats:
            self.heard_at, self.told = self.now, self.cpu
        seconds = listened(gap)
        signs = Signs(self.heard_at, self.told, self.beat)
        if is_to_ask(self.silence, signs, seconds):
            self.asked += 1
            signs = signs._replace(cpu=self.cpu if self.kernel_tells else None)
        self.silence = judge(self.silence, signs, seconds, self.now, self.hang_timeout)
        return self.silence.verdict

    def first(self, wanted: Verdict, within: int, *, cpu: float = 0.0) -> float:
        """Seconds since it was last heard at which the verdict is given for the first time."""
        for _ in range(within):
            if self.look(cpu=cpu) is wanted:
                return self.now - self.heard_at
        raise AssertionError(f"not {wanted} within {within} looks, but {self.silence}")


def test_a_worker_that_beats_is_heard_and_the_kernel_is_never_asked() -> None:
    worker = Worker()
    assert {worker.look(beats=True, cpu=1.0) for _ in range(500)} == {Verdict.HEARD}
    assert worker.asked == 0


def test_an_idle_worker_that_beats_rarely_is_heard_and_the_kernel_is_asked_now_and_then() -> None:
    worker = Worker(beat=IDLE)
    assert {worker.look(beats=number % 20 == 0) for number in range(500)} == {Verdict.HEARD}
    assert worker.asked <= 500 / ASK_EVERY


@pytest.mark.parametrize(("beat", "late"), [(BUSY, 2.0), (5.0, 10.0), (IDLE, 10.0)])
def test_a_beat_that_is_much_too_late_makes_it_silent_and_not_one_that_is_a_little(beat: float, late: float) -> None:
    assert overdue(beat, SILENT_LATE) == pytest.approx(beat + late)
    assert overdue(beat, ASKED_LATE) < overdue(beat, SILENT_LATE)
    silent = Worker(beat=beat).first(Verdict.SILENT, within=100)
    assert beat + late <= silent <= beat + late + 1.0


@pytest.mark.parametrize(("beat", "hang_timeout"), [(BUSY, 60.0), (IDLE, 60.0), (0.2, 3.0), (1.0, 3.0), (0.5, 0.5)])
def test_without_a_beat_and_without_cpu_it_is_hung_at_the_time_limit(beat: float, hang_timeout: float) -> None:
    found = Worker(beat=beat, hang_timeout=hang_timeout).first(Verdict.HUNG, within=200)
    assert hang_timeout <= found <= max(hang_timeout, overdue(beat, SILENT_LATE)) + 1.0


@pytest.mark.parametrize("hang_timeout", [2.0, 3.0, 15.0, TIMEOUT, 600.0])
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("worked_until", range(30))
def test_one_that_worked_and_is_stopped_is_found_five_seconds_after_the_time_limit(
    hang_timeout: float, worked_until: int, *, idle: bool
) -> None:
    """At any moment between two beats, however much it had used since the last one."""
    beat = idle_beat_of(hang_timeout) if idle else beat_of(hang_timeout)
    worker = Worker(beat=beat, hang_timeout=hang_timeout)
    worker.look(beats=True)
    for _ in range(min(worked_until, int(beat))):
        worker.look(cpu=0.9)
    stopped = worker.now
    worker.first(Verdict.HUNG, within=700)
    assert hang_timeout - 1.0 <= worker.now - stopped <= hang_timeout + 5.0


def test_a_worker_that_was_never_looked_at_is_judged_by_when_it_was_heard() -> None:
    worker = Worker(heard_at=999.5)
    worker.look()
    assert worker.silence.unheard == 1.0
    assert worker.first(Verdict.HUNG, within=100) <= TIMEOUT + 1.5


def test_a_worker_that_burns_cpu_is_silent_for_ever_and_never_hung() -> None:
    worker = Worker()
    assert {worker.look(cpu=0.9) for _ in range(1000)} == {Verdict.HEARD, Verdict.SILENT}
    assert worker.silence.used > 800


def test_a_worker_that_stops_working_in_c_is_hung_a_time_limit_later() -> None:
    worker = Worker()
    for _ in range(100):
        worker.look(cpu=1.0)
    assert worker.silence.verdict is Verdict.SILENT
    before = worker.now
    worker.first(Verdict.HUNG, within=100)
    assert TIMEOUT <= worker.now - before <= TIMEOUT + 1.0


def test_what_it_used_between_its_last_beat_and_its_end_delays_the_verdict_by_little() -> None:
    worker = Worker()
    worker.look(beats=True)
    worker.look(gap=0.9, cpu=0.9)  # and is stopped now
    assert worker.first(Verdict.HUNG, within=100) <= TIMEOUT + ASK_EVERY + 2.0


def test_slow_but_steady_work_is_work() -> None:
    worker = Worker()
    assert Verdict.HUNG not in {worker.look(cpu=WORKING / 20) for _ in range(1000)}


def test_the_crumbs_of_a_waiting_process_are_not_work() -> None:
    assert Worker().first(Verdict.HUNG, within=200, cpu=WORKING / TIMEOUT / 10) <= TIMEOUT + 1.0


def test_one_beat_ends_a_silence() -> None:
    worker = Worker()
    for _ in range(59):
        worker.look()
    assert worker.silence.verdict is Verdict.SILENT
    assert worker.look(beats=True) is Verdict.HEARD
    assert worker.silence.unheard == 0.0
    assert worker.first(Verdict.HUNG, within=100) >= TIMEOUT


def test_nobody_is_judged_where_the_kernel_does_not_tell() -> None:
    worker = Worker(kernel_tells=False)
    assert {worker.look() for _ in range(1000)} == {Verdict.HEARD, Verdict.SILENT}


@pytest.mark.parametrize("away", [OWN_PAUSE + 0.01, 8.0, 30.0, 3600.0, 86400.0])
@pytest.mark.parametrize("beat", [BUSY, IDLE])
def test_hermesds_own_pause_is_nobodys_silence(beat: float, away: float) -> None:
    worker = Worker(beat=beat)
    worker.look(beats=True)
    assert worker.look(gap=away) is Verdict.HEARD
    assert worker.silence.unheard == 0.0


def test_a_pause_gives_no_verdict_even_to_one_that_was_nearly_hung() -> None:
    worker = Worker()
    for _ in range(60):
        worker.look()
    assert worker.look(gap=30.0) is Verdict.SILENT
    assert worker.look() is Verdict.HUNG


def test_a_supervisor_that_is_away_again_and_again_kills_nobody() -> None:
    worker = Worker(hang_timeout=3.0)
    assert Verdict.HUNG not in {worker.look(gap=5.0) for _ in range(100)}


def test_a_late_look_that_is_no_pause_counts() -> None:
    worker = Worker()
    looks = 0
    while worker.look(gap=1.4) is not Verdict.HUNG:
        looks += 1
        assert looks < 60
    assert worker.now - worker.heard_at <= TIMEOUT + 2 * 1.4


@pytest.mark.parametrize("hang_timeout", [0.5, 3.0, 15.0, 60.0, 3600.0])
@pytest.mark.parametrize("burn_timeout", [0.0, 0.5, 2.0, 15.0, 600.0])
def test_beats_are_frequent_enough_for_the_time_limits(hang_timeout: float, burn_timeout: float) -> None:
    idle = idle_beat_of(hang_timeout, burn_timeout)
    assert beat_of(hang_timeout) <= min(LONGEST_BEAT, idle)
    assert idle <= idle_beat_of(hang_timeout)
    assert not burn_timeout or idle <= max(beat_of(hang_timeout), 4 / 3 * burn_timeout)
    for beat in (beat_of(hang_timeout), idle):
        assert overdue(beat, SILENT_LATE) <= hang_timeout
        assert 3 * beat <= hang_timeout, "one may get lost and nobody is judged for it"


@given(
    st.lists(
        st.tuples(st.sampled_from([0.3, 1.0, 1.2, 2.0, 30.0]), st.sampled_from([0.0, 0.001, 0.04, 0.5]), st.booleans()),
        max_size=300,
    ),
    st.sampled_from([0.2, BUSY, 5.0, IDLE]),
    st.sampled_from([1.0, 3.0, TIMEOUT]),
)
def test_hung_always_means_that_hermesd_listened_for_the_whole_time_and_the_kernel_saw_no_work(
    looks: list[tuple[float, float, bool]], beat: float, hang_timeout: float
) -> None:
    worker = Worker(beat=beat, hang_timeout=hang_timeout)
    heard_for: list[tuple[float, float]] = []  # (seconds listened, CPU) of each look since the last beat
    for gap, cpu, beats in looks:
        verdict = worker.look(gap, beats=beats, cpu=cpu)
        if beats:
            heard_for = []
            assert verdict is Verdict.HEARD
            continue
        heard_for.append((listened(gap), cpu))
        if verdict is Verdict.HUNG:
            assert listened(gap)
            assert sum(seconds for seconds, _ in heard_for) >= hang_timeout
            still, used = 0.0, 0.0
            for seconds, burnt in reversed(heard_for):
                if still >= hang_timeout:
                    break
                still += seconds
                used += burnt
            assert used < 2 * WORKING + max(burnt for _, burnt in heard_for)
