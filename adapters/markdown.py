"""Markdown as agents write it, parsed once for all platforms; each platform renders the tokens its own way."""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

MOST_CELLS = 5_000
"""Of all tables of a text together. A row is filled up to the width of its table's first one, so that the 4,096
characters of one message can ask for 65,000 cells, which would hold the event loop up for most of a second.
"""

_DELIMITER = frozenset("|:- \t")


@lru_cache(maxsize=2)
def _parser(*, tables: bool) -> MarkdownIt:
    # No HTML: what looks like a tag is text. No typographer: quotes stay what they are.
    parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
    return parser.enable("table") if tables else parser


def parse(text: str) -> list[Token]:
    """The block tokens of markdown-it-py; inline content is in the ``children`` of the ``inline`` ones.

    Tables out of all proportion (`MOST_CELLS`) are text.
    """
    return _parser(tables=cells_at_most(text) <= MOST_CELLS).parse(text)


def cells_at_most(text: str) -> int:
    """No less than the cells of all tables in ``text``.

    An empty line ends a table, also one in a quotation; how wide it is, the line below its first row says, which has no
    other characters than ``|``, ``-``, ``:`` and blanks.
    """
    cells = height = width = 0
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        inner = line.lstrip("> \t")
        if inner.strip():
            height += 1
            if "-" in inner and _DELIMITER.issuperset(inner):
                width = max(width, inner.count("|") + 1)
        else:
            cells += height * width
            height = width = 0
    return cells + height * width
