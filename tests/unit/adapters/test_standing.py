from __future__ import annotations

from hermesd.adapters.contract import State
from hermesd.adapters.standing import Standing


def test_a_word_keeps_its_age_and_signs_of_life_stay() -> None:
    clock = [100.0]
    standing = Standing(lambda: clock[0])
    assert standing.shown() == State("stopped", since=100.0)
    clock[0] = 110.0
    standing.become("backing_off", "no route", fix="plug it in")
    clock[0] = 120.0
    standing.alive()
    standing.become("backing_off", "refused")
    assert standing.shown() == State("backing_off", "refused", since=110.0, received_at=120.0)
    standing.become("online")
    assert standing.word == "online"
    assert standing.shown() == State("online", since=120.0, received_at=120.0)
