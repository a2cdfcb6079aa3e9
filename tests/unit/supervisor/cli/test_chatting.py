"""Which lines of a pipe are sent when."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any, BinaryIO

import pytest

from hermesd.adapters.local import script
from hermesd.supervisor.cli.chatting import PAUSE, Line, Pipe, may_go

ANSWER = {"kind": "answer", "text": "", "turn": "1", "final": True}
QUESTION = {"kind": "question", "text": "", "turn": "1", "final": False}


@pytest.mark.parametrize("text", ["hello", "/approve"])
def test_the_rule_is_that_of_the_console(text: str) -> None:
    for pause, running, asked in product((0.0, PAUSE), (False, True), (False, True)):
        assert may_go(Line(text, pause), running=running, asked=asked) is script.may_go(
            script.Line(text, pause), running=running, asked=asked
        )
    assert PAUSE == script.PAUSE


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The writing end of what is stdin now."""
    reader, writing = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writing, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        yield writer


class Chat:
    """A pipe whose lines are taken by a thread of their own, as the program's main thread does."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.sent: list[str] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        for line in self.pipe.lines():
            with self._more:
                self.sent.append(line)
                self._more.notify()

    def hears(self, event: dict[str, Any], count: int) -> list[str]:
        """What had been sent when ``count`` lines were."""
        self.pipe.show(event)
        return self.until(count)

    def until(self, count: int) -> list[str]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.sent) >= count, 30), self.sent
            return list(self.sent)

    def ended(self) -> bool:
        self._thread.join(30)
        return not self._thread.is_alive()


def test_each_line_waits_for_the_answer_of_the_one_before(typed: BinaryIO) -> None:
    typed.write("one\n\n  \r\ntwo\r\n/retry\nüb".encode() + b"\xff\nlast")
    typed.close()
    chat = Chat()
    assert chat.until(1) == ["one"]
    for count, line in enumerate(["two", "/retry", "üb\N{REPLACEMENT CHARACTER}", "last"], 2):
        assert chat.hears(ANSWER, count)[-1] == line
        assert len(chat.sent) == count
    assert chat.ended(), "at the end of input: hermesd waits for the last answer"


def test_a_question_lets_the_command_that_answers_it_pass(typed: BinaryIO) -> None:
    typed.write(b"!ask x\n/approve\nlater\n")
    chat = Chat()
    assert chat.until(1) == ["!ask x"]
    assert chat.hears(QUESTION, 2) == ["!ask x", "/approve"]
    chat.pipe.show(ANSWER)
    assert chat.hears(ANSWER, 3)[-1] == "later"
    chat.pipe.over()
    assert chat.ended()


def test_who_answers_to_what_was_shown_need_not_be_slow(typed: BinaryIO) -> None:
    typed.write(b"!sleep 600\n")
    chat = Chat()
    chat.until(1)
    chat.pipe.show({"kind": "delta", "text": "not shown", "turn": "1", "final": False})
    chat.pipe.show({"kind": "status", "text": "sleeping", "turn": "1", "final": False})
    typed.write(b"/stop\nhello\n")
    assert chat.until(2) == ["!sleep 600", "/stop"]
    chat.pipe.over()
    assert chat.ended()


def test_the_end_of_the_chat_ends_a_read_of_open_input(typed: BinaryIO) -> None:
    chat = Chat()
    chat.pipe.over()
    assert chat.ended()
