"""Markdown as agents write it, parsed once for all platforms; each platform renders the tokens its own way."""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    # No HTML: what looks like a tag is text. No typographer: quotes stay what they are.
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def parse(text: str) -> list[Token]:
    """The block tokens of markdown-it-py; inline content is in the ``children`` of the ``inline`` ones."""
    return _parser().parse(text)
