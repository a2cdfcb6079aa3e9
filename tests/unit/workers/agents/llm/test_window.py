from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermesd.workers.agents.llm import summary
from hermesd.workers.agents.llm.conversation import Conversation, Exchange, Message, answer, result
from hermesd.workers.agents.llm.stream import Call
from hermesd.workers.agents.llm.window import Window, clipped, fold, shorten, size, size_of, too_old


def step(number: int, length: int, name: str = "t") -> list[Message]:
    return [answer("", [Call(f"c{number}", name, "{}")], [True]), result(f"c{number}", "x" * length)]


def test_a_token_is_four_characters_until_the_server_says_better() -> None:
    window = Window(8192)
    assert window.room == 8192 * 3 // 4 * 4
    window.learn(3000, 1000)
    assert (window.characters, window.room) == (3.0, 8192 * 3 // 4 * 3)
    assert window.in_tokens(300) == 100
    window.learn(30_000, 10)  # what was in its cache is not in some servers' count
    assert window.characters == 5.0
    window.learn(0, 0)
    assert window.characters == 5.0


def test_the_room_for_an_answer_is_bounded() -> None:
    assert Window(128_000).room == (128_000 - 8192) * 4


@given(st.text(max_size=300), st.integers(0, 200))
def test_a_clipped_text_has_its_ends_and_is_not_longer(text: str, length: int) -> None:
    cut = clipped(text, length)
    assert len(cut) <= max(length, 40) or cut == text
    if len(text) <= length:
        assert cut == text


def test_old_results_are_cut_before_new_ones_and_no_more_than_needed() -> None:
    conversation = Conversation(exchanges=[Exchange([], [{"role": "user", "content": "q"}, *step(1, 5000)])])
    current = [{"role": "user", "content": "q"}, *step(2, 5000), *step(3, 5000)]
    assert shorten(conversation, current, 2000) == 1
    lengths = [len(message["content"]) for message in (conversation.exchanges[0].messages[2], current[2], current[4])]
    assert lengths == [2000, 5000, 5000]
    assert shorten(conversation, current, 6000) == 2
    assert (len(current[4]["content"]), len(current[2]["content"])) == (5000, 400)
    shorten(conversation, current, 10**6)
    assert len(current[4]["content"]) == 80, "the running step comes last"


def test_images_of_earlier_turns_go_and_those_of_this_one_stay() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    conversation = Conversation(exchanges=[Exchange([], [{"role": "user", "content": list(parts)}])])
    current: list[Message] = [{"role": "user", "content": list(parts)}]
    shorten(conversation, current, 10**6)
    assert conversation.exchanges[0].messages[0]["content"] == "look\n[1 images, no longer shown]"
    assert current[0]["content"] == parts


def test_so_many_of_the_oldest_have_to_go_that_the_rest_takes_half() -> None:
    exchanges = [Exchange([], [{"role": "user", "content": "x" * 84}]) for _ in range(10)]
    assert too_old(exchanges, 800) == 6
    assert too_old(exchanges, 0) == 10
    assert too_old(exchanges, 10**6) == 0


def test_the_oldest_steps_of_a_long_turn_are_folded_and_the_users_words_are_kept() -> None:
    current = [{"role": "user", "content": "q"}, *step(1, 500), {"role": "user", "content": "hurry"}, *step(2, 500)]
    before = size_of(current)
    assert fold(current, 100) == 1
    assert [message["role"] for message in current] == ["user", "assistant", "user", "assistant", "tool"]
    assert current[1]["content"] == "[I called t; the results are left out here.]"
    assert size_of(current) < before - 100
    assert fold(current, 10**6) == 0, "the last step stays"


def test_everything_counts() -> None:
    assert size({"role": "user", "content": "1234"}) == 20
    assert size(step(1, 0, "name")[0]) == 16 + 16 + len("name{}")
    assert size({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 10**6}}]}) < 10_000


class TestSummary:
    def test_the_request_has_as_many_turns_as_fit_and_at_least_one(self) -> None:
        exchanges = [Exchange([], [{"role": "user", "content": f"turn {number} " + "x" * 500}]) for number in range(9)]
        messages, taken = summary.request("earlier", exchanges, 2500)
        assert 2 <= taken < 9
        assert size_of(messages) <= 2500
        assert "earlier" in messages[1]["content"]
        assert f"turn {taken - 1} " in messages[1]["content"]
        assert f"turn {taken} " not in messages[1]["content"]
        messages, taken = summary.request("", exchanges[:1], 600)
        assert taken == 1
        assert size_of(messages) <= 700

    def test_without_an_answer_the_beginnings_of_what_was_said_stand_for_it(self) -> None:
        exchanges = [Exchange([], [{"role": "user", "content": "my cat is called Zephyrine"}])]
        assert "Zephyrine" in summary.instead("", exchanges, 1000)
        assert len(summary.instead("x" * 5000, exchanges, 1000)) <= 1000

    def test_a_call_is_named_and_an_image_is_one_word(self) -> None:
        parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 9999}}]
        text = summary.transcript(Exchange([], [{"role": "user", "content": parts}, *step(1, 3, "time_now")]))
        assert text == "user: look [an image]\nassistant (called time_now): \ntool: xxx"
