"""Markdown as agents write it, in what Discord's clients understand. Pure; never longer than what it is given.

Most of it is the same. What differs: tables (none there: a code block), headings below the third level, headings by
underlining, images (a link), emphasis by two underscores (an underline there), HTML entities, indented code, and line
breaks by a backslash or two spaces. Everything else stays as it was written, character for character.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from markdown_it.token import Token

from hermesd.adapters.markdown import parse
from hermesd.adapters.text import clean

_HEADING = re.compile(r"^( {0,3})(#{4,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_TICKS = re.compile(r"`+")
_STRONG = re.compile(r"(?<!\w)__(?=\S)((?:[^_\n]|_(?!_))+?)(?<=\S)__(?!\w)")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKS = re.compile(r"(\*\*|`)(\S(?:.*?\S)?)\1")  # a block of code shows them as they are
_DELIMITER = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_SLOT = "\x00"


def render(text: str) -> str:
    """The text for a message's ``content``."""
    # Line ends are as markdown-it-py counts them then, and the slots below have a character that is nowhere.
    text = clean(text)
    lines = text.split("\n")
    verbatim: set[int] = set()
    replaced: dict[int, tuple[int, list[str]]] = {}  # first line: (line after the last, what stands there instead)
    for token in parse(text):
        if token.map is None:
            continue
        first, end = token.map
        if token.type == "fence":
            verbatim.update(range(first, end))
        elif token.type == "code_block":
            verbatim.update(range(first, end))
            replaced |= _if_shorter(lines, first, end, _indented(token))
        elif token.type == "table_open" and token.level == 0:
            replaced |= _if_shorter(lines, first, end, _table(lines[first:end]))
        elif token.type == "heading_open" and token.markup in ("=", "-") and token.level == 0:
            hashes = "# " if token.markup == "=" else "## "
            title = [_inline(line.strip()) for line in lines[first : end - 1]]
            replaced |= _if_shorter(lines, first, end, [hashes + " ".join(title)])
    rendered = _assemble(lines, verbatim, replaced)
    return rendered if len(rendered) <= len(text) else text


def _assemble(lines: list[str], verbatim: set[int], replaced: dict[int, tuple[int, list[str]]]) -> str:
    out: list[str] = []
    prose: list[str] = []

    def flush() -> None:
        if prose:
            out.extend(_prose("\n".join(prose)).split("\n"))
            prose.clear()

    at = 0
    while at < len(lines):
        if at in replaced:
            flush()
            at, instead = replaced[at]
            out += instead
        else:
            if at in verbatim:
                flush()
                out.append(lines[at])
            else:
                prose.append(lines[at])
            at += 1
    flush()
    return "\n".join(out)


def _if_shorter(lines: list[str], first: int, end: int, instead: list[str]) -> dict[int, tuple[int, list[str]]]:
    while end > first and not lines[end - 1].strip():
        end -= 1
    before = "\n".join(lines[first:end])
    return {first: (end, instead)} if instead and len("\n".join(instead)) <= len(before) else {}


def _indented(token: Token) -> list[str]:
    code = token.content.rstrip("\n")
    return [] if "```" in code else ["```", *code.split("\n"), "```"]


def _table(rows: list[str]) -> list[str]:
    """In columns where that is not longer than the source, else as narrow as can be."""
    cells = [_cells(row) for row in rows if row.strip() and not _DELIMITER.match(row)]
    if not cells or any("```" in row for row in rows):
        return []
    columns = max(map(len, cells))
    cells = [row + [""] * (columns - len(row)) for row in cells]
    widths = [max(len(row[place]) for row in cells) for place in range(columns)]
    wide = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    narrow = ["|".join(row) for row in cells]
    room = len("\n".join(rows)) - len("```\n\n```")
    rows_out = wide if len("\n".join(wide)) <= room else narrow
    return ["```", *rows_out, "```"]


def _cells(row: str) -> list[str]:
    inner = row.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    parts = re.split(r"(?<!\\)\|", inner)
    return [_MARKS.sub(r"\2", part.replace("\\|", "|").strip()) for part in parts]


def _prose(text: str) -> str:
    lines = []
    for line in _inline(text).split("\n"):
        line = line.rstrip(" ")
        if line.endswith("\\") and not line.endswith("\\\\"):
            line = line[:-1]  # a hard line break; every line break is one there
        match = _HEADING.match(line)
        if match:
            title = match.group(3).replace("**", "")
            line = f"{match.group(1)}**{title}**" if title else ""
        lines.append(line)
    return "\n".join(lines)


def _inline(text: str) -> str:
    """Images, emphasis and entities outside of inline code."""
    codes: list[str] = []

    def keep(code: str) -> str:
        codes.append(code)
        return f"{_SLOT}{len(codes) - 1}{_SLOT}"

    out = _outside_code(text, keep)
    out = re.sub(r"(?<!\\)!\[(?=[^\]\n]*\]\()", "[", out)
    out = re.sub(r"\[\]\((<?[^)\s>]+>?)[^)]*\)", r"\1", out)
    out = _STRONG.sub(r"**\1**", out)
    out = _ENTITY.sub(lambda match: html.unescape(match.group(0)), out)
    return re.sub(f"{_SLOT}(\\d+){_SLOT}", lambda match: codes[int(match.group(1))], out)


def _outside_code(text: str, keep: Callable[[str], str]) -> str:
    """The text with each code span, address and escaped character put away by ``keep``."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text) and text[at + 1] != "\n":
            out.append(keep(text[at : at + 2]))
            at += 2
        elif char == "`":
            run = _TICKS.match(text, at)
            assert run is not None
            end = _closing(text, run.end(), run.group(0))
            out.append(keep(text[at:end]) if end else run.group(0))
            at = end or run.end()
        elif text.startswith(("http://", "https://"), at):
            match = re.compile(r"[^\s)>\]]+").match(text, at)
            assert match is not None
            out.append(keep(match.group(0)))
            at = match.end()
        else:
            out.append(char)
            at += 1
    return "".join(out)


def _closing(text: str, start: int, ticks: str) -> int:
    """Where the code span ends that these backticks open; 0 when nothing closes it."""
    for match in _TICKS.finditer(text, start):
        if match.group(0) == ticks:
            return match.end()
    return 0
