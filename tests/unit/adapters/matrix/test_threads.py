from __future__ import annotations

from hermesd.adapters.matrix.threads import KEPT, Threads


def test_the_latest_are_remembered() -> None:
    threads = Threads()
    for number in range(KEPT + 1):
        threads.join(str(number))
    assert len(threads) == KEPT
    assert "0" not in threads
    threads.join("1")
    threads.join("new")
    assert "1" in threads
    assert "2" not in threads


def test_they_outlive_the_process() -> None:
    threads = Threads()
    threads.join("$a")
    threads.join("$b")
    assert list(Threads(threads.dump())) == ["$a", "$b"]
    assert list(Threads("")) == []
