from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.ipc.messages import Entry
from hermesd.workers.agents.hermes.memory import FOLDER, Memory
from hermesd.workers.agents.hermes.results import Message

LOOKED: list[Message] = [
    {"role": "user", "content": "the time"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]},
    {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
    {"role": "assistant", "content": "Noon."},
]


def texts(*said: str) -> list[Entry]:
    return [Entry(("user", "assistant")[number % 2], text) for number, text in enumerate(said)]


def told(tmp_path: Path) -> Memory:
    """After one turn with a tool."""
    memory = Memory(tmp_path, "s1", [])
    memory.remember(memory.messages([]), "the time", LOOKED)
    return memory


def test_what_a_run_added_is_there_for_the_next(tmp_path: Path) -> None:
    memory = told(tmp_path)
    assert memory.messages(texts("the time", "Noon.")) == LOOKED


def test_another_worker_takes_it_up(tmp_path: Path) -> None:
    told(tmp_path)
    assert Memory(tmp_path, "s1", texts("the time", "Noon.")).messages(texts("the time", "Noon.")) == LOOKED


def test_a_transcript_that_says_otherwise_wins(tmp_path: Path) -> None:
    told(tmp_path)
    history = texts("hello", "Hello.")
    messages = Memory(tmp_path, "s1", history).messages(history)
    assert [(one["role"], one["content"]) for one in messages] == [("user", "hello"), ("assistant", "Hello.")]


def test_a_turn_that_is_run_again_is_forgotten(tmp_path: Path) -> None:
    memory = told(tmp_path)
    history = texts("the time", "Noon.")
    before = memory.messages(history)
    memory.remember(before, "thanks", [*before, {"role": "user", "content": "thanks"}])
    assert memory.messages(history) == LOOKED


def test_a_summary_stands_for_all_before_it_also_in_another_worker(tmp_path: Path) -> None:
    memory = told(tmp_path)
    history = texts("the time", "Noon.")
    compressed: list[Message] = [{"role": "user", "content": "[summary]"}, {"role": "assistant", "content": "Right."}]
    memory.session_id = "s2"
    memory.remember(memory.messages(history), "go on", compressed)
    history += texts("go on", "Right.")
    assert memory.messages(history) == compressed
    again = Memory(tmp_path, "s1", history)
    assert again.session_id == "s2"
    assert again.messages(history) == compressed


def test_a_long_transcript_that_was_cut_at_its_front_keeps_the_details(tmp_path: Path) -> None:
    memory = told(tmp_path)
    before = memory.messages(texts("the time", "Noon."))
    thanks: list[Message] = [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": "Welcome."}]
    memory.remember(before, "thanks", [*before, *thanks])
    cut = [Entry("assistant", "Noon."), *texts("thanks", "Welcome.")]
    assert Memory(tmp_path, "s1", cut).messages(cut) == [*LOOKED, *thanks]


def test_a_file_that_nobody_can_read_costs_only_the_details(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told(tmp_path)
    (tmp_path / FOLDER / "conversation.json").write_text("{")
    history = texts("the time", "Noon.")
    assert len(Memory(tmp_path, "s1", history).messages(history)) == 2
    assert "going on with the transcript" in caplog.text
