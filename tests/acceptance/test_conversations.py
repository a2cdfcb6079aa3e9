"""One person talks to the installed hermesd on Telegram, Discord and Matrix at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.conversation.conversation import talk
from harness.conversation.transcript import page

DOCS = Path(__file__).parents[2] / "docs" / "conversations.md"


@pytest.mark.slow
def test_one_person_on_three_networks_with_stream_tool_approval_photo_and_file(tmp_path: Path) -> None:
    record = talk(tmp_path, print)
    assert [said.network for said in record.said] == ["telegram", "discord", "matrix"]
    for said in record.said:
        assert f"agent:main:{said.network}:dm:" in record.ps
    assert record.ps.count("mcp time") == 3
    assert _said_by_anna(page(record)) == _said_by_anna(DOCS.read_text("utf-8")), (
        "./scripts/conversations writes it anew"
    )


def _said_by_anna(text: str) -> list[str]:
    """What is the same in every transcript."""
    return re.findall(r"^(?:## .*|\*\*Anna\*\*: .*|\*Anna .*)$", text, re.MULTILINE)
