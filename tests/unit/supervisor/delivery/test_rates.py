from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Capabilities, Rate
from hermesd.supervisor.delivery.rates import SLOWEST, Rates, backed_off

CHAT = Capabilities(chat_rate=Rate(2, 10.0))
ALL = Capabilities(overall_rate=Rate(2, 10.0))
BOTH = Capabilities(overall_rate=Rate(8, 10.0), chat_rate=Rate(4, 10.0))


def send(rates: Rates, chat: str, facts: Capabilities, now: float) -> float:
    """What a lane does: wait for the chat, book, wait for the platform. Returns when the call is made."""
    now = rates.when(chat, facts, now)
    return rates.book(chat, facts, now)


def test_without_rates_everything_goes_at_once() -> None:
    rates = Rates()
    assert [send(rates, "c", Capabilities(), 5.0) for _ in range(100)] == [5.0] * 100
    assert rates.spare("c", Capabilities(), 5.0) == 5.0


def test_a_token_comes_back_its_time_after_it_was_used() -> None:
    rates = Rates()
    assert [send(rates, "c", CHAT, now) for now in (0.0, 4.0, 5.0)] == [0.0, 4.0, 10.0]
    assert rates.when("c", CHAT, 11.0) == 14.0


def test_one_chat_does_not_use_the_tokens_of_another() -> None:
    rates = Rates()
    assert [send(rates, chat, CHAT, 0.0) for chat in "aabb"] == [0.0] * 4


def test_all_chats_share_those_of_the_platform_in_the_order_in_which_they_asked() -> None:
    rates = Rates()
    assert [send(rates, chat, ALL, 0.0) for chat in "abcdef"] == [0.0, 0.0, 10.0, 10.0, 20.0, 20.0]


def test_what_the_platform_says_closes_one_chat() -> None:
    rates = Rates()
    rates.close("a", 30.0)
    rates.close("a", 20.0)
    assert rates.when("a", CHAT, 5.0) == 30.0
    assert rates.spare("a", CHAT, 5.0) == 30.0
    assert rates.when("b", CHAT, 5.0) == 5.0
    assert rates.when("a", CHAT, 31.0) == 31.0


def test_progress_leaves_tokens_for_the_end() -> None:
    rates = Rates()
    took = [rates.spare("c", BOTH, 0.0) for _ in range(4)]
    assert took == [0.0, 0.0, 0.0, 10.0]
    assert send(rates, "c", BOTH, 0.0) == 0.0


def test_progress_waits_for_all_messages_that_wait() -> None:
    rates = Rates()
    facts = Capabilities(overall_rate=Rate(4, 10.0))
    assert [send(rates, chat, facts, 0.0) for chat in "abcdef"] == [0.0] * 4 + [10.0] * 2
    assert rates.spare("g", facts, 9.0) >= 10.0
    assert rates.spare("g", facts, 10.0) == 10.0


def test_a_single_token_is_for_progress_too() -> None:
    rates = Rates()
    facts = Capabilities(chat_rate=Rate(1, 1.0))
    assert rates.spare("c", facts, 0.0) == 0.0
    assert rates.spare("c", facts, 0.5) == 1.0


def test_other_rates_apply_at_once() -> None:
    rates = Rates()
    send(rates, "c", CHAT, 0.0)
    send(rates, "c", CHAT, 0.0)
    assert rates.when("c", Capabilities(chat_rate=Rate(3, 10.0)), 1.0) == 1.0


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from("abc"), st.booleans()), max_size=80))
def test_no_window_ever_holds_more_than_its_count(asked: list[tuple[float, str, bool]]) -> None:
    rates, now, made = Rates(), 0.0, []
    for pause, chat, progress in asked:
        now += pause
        if not progress:
            # A lane that has to wait for its chat asks again then; the clock of the others goes on.
            now = rates.when(chat, BOTH, now)
            made.append((rates.book(chat, BOTH, now), chat))
        elif rates.spare(chat, BOTH, now) == now:
            made.append((now, chat))
    for of, rate in ((None, BOTH.overall_rate), *((chat, BOTH.chat_rate) for chat in "abc")):
        assert rate is not None
        times = sorted(at for at, chat in made if of in (None, chat))
        for first, last in zip(times, times[rate.count :], strict=False):
            assert last - first >= rate.seconds - 1e-9


def test_a_message_that_fails_again_and_again_is_tried_less_and_less_often() -> None:
    waits = [backed_off(2.0, failures) for failures in range(1, 8)]
    assert waits == [2.0, 4.0, 8.0, 16.0, SLOWEST, SLOWEST, SLOWEST]
    assert backed_off(2.0, 10**6) == SLOWEST


def test_what_the_platform_asks_for_is_never_cut_short() -> None:
    assert backed_off(90.0, 1) == backed_off(90.0, 5) == 90.0


def test_what_the_platform_says_closes_all_chats_whose_tokens_come_back_one_by_one() -> None:
    rates = Rates()
    assert send(rates, "a", ALL, 0.0) == 0.0
    rates.close_all(30.0)
    rates.close_all(20.0)
    assert rates.closed_for("b", 5.0) == 25.0
    assert rates.spare("b", ALL, 5.0) >= 30.0
    assert [send(rates, chat, ALL, 5.0) for chat in "abc"] == [30.0, 35.0, 40.0]


def test_a_rate_that_is_learned_from_a_refusal_begins_without_tokens() -> None:
    rates = Rates()
    assert send(rates, "a", Capabilities(), 0.0) == 0.0
    rates.close_all(5.0)
    assert [send(rates, chat, ALL, 1.0) for chat in "ab"] == [5.0, 10.0]


def test_a_token_that_was_booked_for_later_than_a_refusal_stays_used() -> None:
    rates = Rates()
    assert [send(rates, "a", ALL, 0.0) for _ in range(4)] == [0.0, 0.0, 10.0, 10.0]
    rates.close_all(8.0)
    assert send(rates, "b", ALL, 8.0) == 20.0


def test_progress_has_a_rate_of_its_own_which_messages_do_not_use() -> None:
    rates, facts = Rates(), Capabilities(progress_rate=Rate(1, 4.0))
    assert [rates.spare(chat, facts, now) for chat, now in (("a", 0.0), ("b", 1.0), ("b", 4.0))] == [0.0, 4.0, 4.0]
    assert [send(rates, chat, facts, 5.0) for chat in "aab"] == [5.0] * 3
    assert rates.spare("a", facts, 8.0) == 8.0


def test_progress_begins_again_after_all_that_has_waited_for_the_platform() -> None:
    rates, facts = Rates(), Capabilities(progress_rate=Rate(1, 4.0))
    rates.close_all(10.0)
    assert rates.spare("a", facts, 1.0) == 14.0
    assert [send(rates, chat, facts, 1.0) for chat in "ab"] == [10.0, 10.0]
