from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from harness.llm_agent import Talk, model

from hermesd.ipc.messages import Entry, File
from hermesd.workers.agents.contract import Turn
from hermesd.workers.agents.llm.images import message_of
from hermesd.workers.agents.llm.settings import NO_KEY, SYSTEM_PROMPT, read
from hermesd.workers.agents.llm.state import State
from hermesd.workers.agents.llm.steps import Steps
from hermesd.workers.errors import TurnFailed

TURN = Turn("t1", "do it", "u")
STEP = {"role": "assistant", "content": None, "tool_calls": []}


def state(place: Path, key: str = "k") -> State:
    return State(Talk(place, model("http://h/v1"), key=key).session)


def test_what_is_kept_comes_back_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    first = state(tmp_path / "s1")
    first.count({"prompt_tokens": 3, "completion_tokens": 1})
    first.count({"prompt_tokens": 4})
    first.approve("fs.read", always=False)
    first.approve("fs.write", always=True)
    again = state(tmp_path / "s1")
    assert again.kept.usage == {"prompt_tokens": 7, "completion_tokens": 1}
    assert again.approved == {"fs.read", "fs.write"}
    assert state(tmp_path / "s2").approved == {"fs.write"}, "after /new"
    assert state(tmp_path / "s2", key="another chat").approved == frozenset()
    for path in tmp_path.rglob("*.json"):
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"usage": 3}', '{"tail": 1}'])
def test_a_broken_file_counts_as_none(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "s1" / ".llm"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(content)
    assert state(tmp_path / "s1").kept.usage == {}


def test_a_disk_that_takes_nothing_is_said_and_costs_no_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = state(tmp_path / "s1")
    (tmp_path / "s1" / ".llm").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        made.count({"prompt_tokens": 1})
    assert "cannot write" in caplog.text
    assert made.kept.usage == {"prompt_tokens": 1}


class TestSteps:
    def test_the_same_message_goes_on_and_a_line_that_was_being_written_is_left_out(self, tmp_path: Path) -> None:
        path = tmp_path / "steps.jsonl"
        first = Steps(path)
        assert first.begin(TURN, []) == []
        assert not path.exists(), "a turn without tools writes nothing"
        first.add(STEP)
        with path.open("ab") as stream:
            stream.write(b'{"role": "to')
        second = Steps(path)
        assert second.begin(Turn("t2", "do it", "u"), []) == [STEP]
        second.add({"role": "tool", "tool_call_id": "c", "content": "r"})
        assert [step["role"] for step in Steps(path).begin(TURN, [])] == ["assistant", "tool"]

    @pytest.mark.parametrize(
        ("turn", "history"),
        [
            (Turn("t2", "do something else", "u"), []),
            (TURN, [Entry("assistant", "meanwhile")]),
            (Turn("t2", "do it", "u", attachments=(File("/f", "f"),)), []),
        ],
    )
    def test_any_other_message_begins_anew(self, tmp_path: Path, turn: Turn, history: list[Entry]) -> None:
        first = Steps(tmp_path / "steps.jsonl")
        first.begin(TURN, [])
        first.add(STEP)
        assert Steps(tmp_path / "steps.jsonl").begin(turn, history) == []
        assert not (tmp_path / "steps.jsonl").exists()

    def test_the_end_removes_them(self, tmp_path: Path) -> None:
        steps = Steps(tmp_path / "steps.jsonl")
        steps.begin(TURN, [])
        steps.end()
        steps.begin(TURN, [])
        steps.add(STEP)
        steps.end()
        assert list(tmp_path.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) < 100


def test_an_image_is_a_part_and_any_other_file_a_line(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG")
    files = [
        File(str(image), "a.png", "image/png"), File("/gone.png", "gone.png", "image/png"),
        File(str(image), "a.svg", "image/svg+xml"),
    ]  # fmt: skip
    content = message_of("look", files)["content"]
    assert content[0]["text"] == (
        f"look\n[attached: gone.png (image/png), at /gone.png]\n[attached: a.svg (image/svg+xml), at {image}]"
    )
    assert content[1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert message_of("look", [])["content"] == "look"


def test_settings_have_defaults_and_no_model_is_a_sentence() -> None:
    with pytest.raises(TurnFailed, match=r"no model is configured: set model: in config\.yaml"):
        read({})
    made = read({"models": [{"name": "m", "base_url": "http://user:pw@h:1/v1", "api_key": ""}]})
    assert (made.models[0].api_key, made.models[0].place) == (NO_KEY, "h:1")
    assert (made.system_prompt, made.max_steps, made.ask_seconds) == (SYSTEM_PROMPT, 90, 300.0)
    assert "sk-1" not in repr(read({"models": [{"name": "m", "base_url": "u", "api_key": "sk-1"}]}))
