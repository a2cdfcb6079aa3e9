"""The record of a conversation as a page for `docs/`."""

from __future__ import annotations

import re

from .conversation import Record

HEAD = """# One person on three networks at once

Anna talks to one hermesd on Telegram, Discord and Matrix at the same time: an answer that grows, a tool of a real MCP
server, an approval, a photo in and a file out. `./scripts/conversations` had this conversation and wrote this page; the
servers are those of the tests (for Matrix a real Synapse), the agent is the built-in one, which tells a story slowly.

While all three wait for her approval, `hermesctl ps --tree` shows:
"""


def page(record: Record) -> str:
    """Markdown."""
    parts = [HEAD, f"```\n{_plain(record.ps).rstrip()}\n```\n"]
    for said in record.said:
        parts.append(f"## {said.network.capitalize()}\n")
        parts += [f"{line}\n" for line in said.lines]
    return "\n".join(parts)


def _plain(ps: str) -> str:
    """Without what is of one machine only."""
    lines = [re.sub(r"\S*/python\S*", "python", line).rstrip() for line in ps.splitlines()]
    return "\n".join(lines)
