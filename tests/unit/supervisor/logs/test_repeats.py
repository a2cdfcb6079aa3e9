"""Equal records in a row become a count, and the count is always told."""

from __future__ import annotations

from typing import Any

from hermesd.supervisor.logs.repeats import MAX_SOURCES, Repeats


def line(msg: str, **more: Any) -> dict[str, Any]:
    return {"ts": "t", "level": "INFO", "logger": "x", "msg": msg, **more}


def texts(lines: list[dict[str, Any]]) -> list[str]:
    return [one["msg"] for one in lines]


def test_the_first_is_written_and_the_rest_counted_when_something_else_comes() -> None:
    repeats = Repeats()
    assert texts(repeats.take(line("a"), 0.0)) == ["a"]
    assert repeats.take(line("a"), 0.1) == []
    assert repeats.take(line("a"), 0.2) == []
    told, other = repeats.take(line("b"), 0.3)
    assert (told["msg"], told["repeated"]) == ("repeated 2 times: a", 2)
    assert other["msg"] == "b"
    repeats.take(line("b"), 0.4)
    assert texts(repeats.take(line("a"), 0.5)) == ["repeated once more: b", "a"]


def test_two_workers_that_log_in_turns_do_not_end_each_others_runs() -> None:
    repeats = Repeats()
    written = [one for n in range(6) for one in repeats.take(line("same", worker=f"w{n % 2}"), 0.0)]
    assert [one["worker"] for one in written] == ["w0", "w1"]
    assert sorted((one["worker"], one["repeated"]) for one in repeats.rest(1.0)) == [("w0", 2), ("w1", 2)]
    assert repeats.rest(1.0) == []


def test_the_same_words_of_another_level_logger_session_or_process_are_another_record() -> None:
    repeats = Repeats()
    repeats.take(line("a"), 0.0)
    for other in ({"level": "ERROR"}, {"logger": "y"}, {"session": "s"}, {"pid": 7}):
        assert len(repeats.take({**line("a"), **other}, 0.0)) == 1


def test_a_run_that_goes_on_is_told_of_now_and_then() -> None:
    repeats = Repeats(patience=10.0)
    repeats.take(line("a"), 0.0)
    assert [texts(repeats.take(line("a"), float(now))) for now in (5, 9, 10, 15, 20)] == [
        [], [], ["repeated 3 times: a"], [], ["repeated 2 times: a"],
    ]  # fmt: skip


def test_a_count_is_told_when_nothing_more_comes() -> None:
    repeats = Repeats(patience=10.0)
    repeats.take(line("a"), 0.0)
    repeats.take(line("a"), 1.0)
    assert repeats.overdue(9.0) == []
    assert texts(repeats.overdue(10.0)) == ["repeated once more: a"]
    assert repeats.overdue(30.0) == []


def test_the_sources_are_bounded_and_a_forgotten_ones_count_is_told() -> None:
    repeats = Repeats()
    repeats.take(line("a", worker="w0"), 0.0)
    repeats.take(line("a", worker="w0"), 0.0)
    written = [one for n in range(1, MAX_SOURCES + 1) for one in repeats.take(line("a", worker=f"w{n}"), 0.0)]
    assert texts(written).count("repeated once more: a") == 1
    assert len(repeats.rest(0.0)) == 0
