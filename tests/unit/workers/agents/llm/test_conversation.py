from __future__ import annotations

from hermesd.ipc.messages import Entry
from hermesd.workers.agents.llm.conversation import Conversation, Message, answer, in_order, result, unanswered
from hermesd.workers.agents.llm.stream import Call


def said(*texts: str) -> list[Entry]:
    return [Entry("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]


def contents(conversation: Conversation) -> list[str]:
    return [message["content"] for exchange in conversation.exchanges for message in exchange.messages]


RICH: list[Message] = [
    {"role": "user", "content": "q2"},
    answer("", [Call("c", "t", "{}")], [True]),
    result("c", "r"),
    {"role": "assistant", "content": "a2"},
]


def test_the_texts_of_the_history_are_its_messages() -> None:
    made = Conversation()
    made.follow(said("q1", "a1", "q2", "a2"))
    assert contents(made) == ["q1", "a1", "q2", "a2"]
    assert len(made.exchanges) == 2


def test_a_turn_that_the_history_took_up_keeps_its_tool_calls() -> None:
    made = Conversation()
    made.follow(said("q1", "a1"))
    made.remember("q2", RICH)
    made.follow(said("q1", "a1", "q2", "a2"))
    assert made.exchanges[-1].messages is RICH
    made.follow(said("q1", "a1", "q2", "a2", "q3", "a3"))
    assert made.exchanges[1].messages is RICH
    assert contents(made)[-2:] == ["q3", "a3"]


def test_a_turn_that_failed_or_was_taken_back_is_forgotten() -> None:
    made = Conversation()
    made.follow(said("q1", "a1"))
    made.remember("q2", RICH)
    made.follow(said("q1", "a1"))
    assert contents(made) == ["q1", "a1"]
    made.remember("q2", RICH)
    made.follow(said("q1", "a1", "q2", "a2"))
    made.follow(said("q1", "a1"))
    made.follow(said("q1", "a1", "q2", "another answer"))
    assert contents(made) == ["q1", "a1", "q2", "another answer"]


def test_a_summary_stands_for_the_oldest_and_goes_when_they_are_taken_back() -> None:
    made = Conversation()
    history = said("q1", "a1", "q2", "a2", "q3", "a3")
    made.follow(history)
    made.summarise(2, "the beginning")
    assert contents(made) == ["q3", "a3"]
    made.follow(history)
    assert (contents(made), made.summary, made.covered) == (["q3", "a3"], "the beginning", 4)
    made.follow(history[:2])
    assert (contents(made), made.summary) == (["q1", "a1"], "")


def test_the_next_worker_takes_a_summary_up_where_it_ended() -> None:
    first, history = Conversation(), said("q1", "a1", "q2", "a2", "q3", "a3")
    first.follow(history)
    first.summarise(2, "the beginning")
    for left in (history, history[2:]):  # the oldest may no longer be among what it is given
        second = Conversation()
        second.restore("the beginning", first.tail, left)
        second.follow(left)
        assert (second.summary, contents(second)) == ("the beginning", ["q3", "a3"])
    other = Conversation()
    other.restore("the beginning", first.tail, said("something", "else"))
    other.follow(said("something", "else"))
    assert (other.summary, contents(other)) == ("", ["something", "else"])


def test_results_get_the_order_of_their_calls_and_missing_ones_are_known() -> None:
    calls = [Call("a", "t", "{}"), Call("b", "t", "{}"), Call("c", "t", "{}")]
    step = answer("let me look", calls, [True, True, False])
    messages = [{"role": "user", "content": "q"}, step, result("c", "3"), result("a", "1")]
    assert [message.get("tool_call_id") for message in in_order(messages)] == [None, None, "a", "c"]
    assert [call.id for call in unanswered(messages)] == ["b"]
    assert unanswered([{"role": "user", "content": "q"}]) == []


def test_arguments_that_are_no_json_are_not_sent_back() -> None:
    message = answer("", [Call("a", "t", '{"x')], [False])
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert message["content"] is None
