"""What an agent's text says to hermesd and not to its reader: files to send, and thoughts. Pure.

* ``MEDIA:/path/to/file``, also ``~/``, quoted, or with spaces before a known ending; ``[[audio_as_voice]]``,
  ``[[as_sticker]]``.
* ``![alt](https://…)`` and ``<img src="https://…">`` where the address looks like an image's.
* A path of an image or a video that exists, where it is not code. It is no directive: it is taken out of the text only
  where it has a line for itself.
* ``<think>…</think>`` in six spellings, at the beginning of a line.

`Screen` reads a text as it comes, in pieces cut anywhere, and shows of it what is certain; `read` reads a whole one
with it, so that a running answer and a finished one read the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

IMAGE_ENDINGS = ("png", "jpg", "jpeg", "gif", "webp")
VIDEO_ENDINGS = ("mp4", "mov", "avi", "mkv", "webm")
AUDIO_ENDINGS = ("ogg", "opus", "mp3", "wav", "m4a")
_MEDIA_ENDINGS = "|".join((*IMAGE_ENDINGS, *VIDEO_ENDINGS, *AUDIO_ENDINGS))
_DOCUMENT_ENDINGS = "pdf|md|txt|log|csv|json|xml|html|zip|gz|tar|docx|xlsx|pptx|svg|flac|3gp|bmp"
_IMAGE_HOSTS = ("fal.media", "fal-cdn", "replicate.delivery")  # give their images addresses without an ending

VOICE = "[[audio_as_voice]]"
STICKER = "[[as_sticker]]"

LONGEST_LINE = 4096
"""Longer lines hold no directives; with the bounds in the patterns, no text costs more than its length."""

_THOUGHTS = "think|thinking|thought|reasoning|reasoning_scratchpad"  # and the same in capitals
_THOUGHT = re.compile(rf"[ \t]{{0,8}}<({_THOUGHTS})>", re.I)
_LONGEST_TAG = len("</reasoning_scratchpad>")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
_CODE = re.compile(r"(?<!`)(`{1,8})(?!`)(.+?)(?<!`)\1(?!`)")

# Without blanks up to a known ending; else with blanks up to a medium's ending; else up to the first blank.
_PATH = (
    rf"(?:~/|/)\S{{0,1000}}\.(?i:{_MEDIA_ENDINGS}|{_DOCUMENT_ENDINGS})(?![\w/])"
    rf"|(?:~/|/)[^\n]{{0,300}}?\.(?i:{_MEDIA_ENDINGS})(?![\w/])"
    r"|(?:~/|/)\S{1,1000}"
)
_MEDIA = re.compile(
    r"""[`"']?MEDIA:[ \t]{0,9}(?:`([^`\n]{1,1000})`|"([^"\n]{1,1000})"|'([^'\n]{1,1000})'|(""" + _PATH + r"""))[`"']?"""
)
_IMAGE = re.compile(r"""!\[([^\]\n]{0,300})\]\((https?://[^\s)]{1,1000})(?:[ \t]{1,9}"[^"\n]{0,300}")?\)""", re.I)
_HTML_IMAGE = re.compile(
    r"""<(?:img|IMG)\b[^>\n]{0,300}?\b(?i:src)=["']?(https?://[^\s"'>]{1,1000})["']?[^>\n]{0,300}>"""
)
_LOCAL = re.compile(
    rf"(?<![\w/:.~\\-])(?:~/|/)(?:[\w.@%+~-]+/)*[\w.@%+~-]+\.(?:{'|'.join((*IMAGE_ENDINGS, *VIDEO_ENDINGS))})(?![\w/])",
    re.I,
)
_TRIGGERS = ("MEDIA:", VOICE, STICKER, "![", "<img", "<IMG")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that the text asks for. ``source`` is a path or an http(s) address, as it was written."""

    source: str
    kind: str  # "media" (a directive) | "image" (an address) | "local" (a path that may mean a file)
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A text as its reader gets it, and what it asks for, in its order. ``voice``: audio is meant as spoken;
    ``sticker``: pictures are meant as stickers.
    """

    text: str
    wanted: tuple[Wanted, ...] = ()
    voice: bool = False
    sticker: bool = False


class Screen:
    """``images`` False: pictures on the web stay in the text, for platforms that take no files."""

    def __init__(self, *, images: bool = True):
        self._images = images
        self._pending = ""  # of the current line, or of a thought: not read yet
        self._shown = 0  # characters of ``_pending`` that have been given out
        self._thought = ""
        self._fence = ""
        self._swallow = False  # a thought has ended: the blank space behind it is its own
        self._blank_lines = 1  # in a row, so far; a text does not begin with one
        self._line_open = False  # the current line has begun before ``_pending``
        self.wanted: list[Wanted] = []
        self.voice = False
        self.sticker = False

    @property
    def thinking(self) -> bool:
        """A thought has begun and not ended."""
        return bool(self._thought)

    def feed(self, text: str) -> str:
        """More of it; returns what can be shown now."""
        self._pending += text
        return self._read(last=False)

    def pause(self) -> str:
        """The text is complete so far and goes on after something else; returns the rest of what there is to show."""
        rest = self._read(last=True)
        self._blank_lines, self._line_open = 1, False
        return rest

    def _read(self, *, last: bool) -> str:
        out: list[str] = []
        while True:
            if self._thought and not self._leave_thought():
                break
            if self._swallow and not self._swallow_blank():
                break
            if self._enter_thought():
                continue
            line, newline, rest = self._pending.partition("\n")
            if not newline:
                out.append(self._partial(line, last=last))
                break
            out.append(self._line(line) if self._keeps(line) else "")
            self._pending, self._shown, self._line_open = rest, 0, False
        return "".join(out)

    # ---- thoughts

    def _enter_thought(self) -> bool:
        if self._fence or self._line_open or self._shown:
            return False
        match = _THOUGHT.match(self._pending)
        if match is None:
            return False
        self._thought = match[1].lower()
        self._pending = self._pending[match.end() :]
        return True

    def _leave_thought(self) -> bool:
        end = re.search(rf"</{self._thought}>", self._pending, re.I)
        if end is None:
            self._pending = self._pending[-_LONGEST_TAG:]
            return False
        self._thought, self._swallow = "", True
        self._pending = self._pending[end.end() :]
        return True

    def _swallow_blank(self) -> bool:
        self._pending = self._pending.lstrip()
        self._swallow = not self._pending
        return not self._swallow

    # ---- lines

    def _partial(self, line: str, *, last: bool) -> str:
        """The beginning of a line: what nothing that may follow can change."""
        if last:
            shown = self._line(line, newline="") if line and self._keeps(line, last=True) else ""
            self._pending, self._shown, self._line_open = "", 0, self._line_open or bool(line)
            return shown
        safe = len(line) if self._fence else self._safe(line)
        if safe <= self._shown:
            return ""
        shown, self._shown = line[self._shown : safe], safe
        self._blank_lines = 0
        return shown

    def _safe(self, line: str) -> int:
        """How much of it is text, whatever comes next."""
        if not line.strip():
            return 0
        tag = line.lstrip(" \t").lower() if len(line) <= 8 + _LONGEST_TAG else line
        if not self._line_open and any(f"<{name}>".startswith(tag) for name in _THOUGHTS.split("|")):
            return 0
        held = len(line)
        new = line[self._shown :]  # what has been shown holds the beginning of none
        for trigger in _TRIGGERS:
            at = new.find(trigger)
            if at < 0:
                beginnings = range(min(len(trigger) - 1, len(new)), 0, -1)
                at = next((len(new) - size for size in beginnings if new.endswith(trigger[:size])), len(new))
            held = min(held, self._shown + at)
        # What stands before it may be its quotes, or the mark of a list that has nothing else.
        while held and line[held - 1] in "`\"'":
            held -= 1
        if not line[:held].strip(" \t-*"):
            held = 0
        return held

    def _keeps(self, line: str, *, last: bool = False) -> bool:
        """Whether anything of the line is to be shown, so that it has its place."""
        if self._fence or self._shown or self._line_open:
            return True
        if line.strip():
            return True
        return not last and self._blank_lines < 1

    def _line(self, line: str, newline: str = "\n") -> str:
        """A whole line, as far as it has not been shown."""
        before = self._shown
        if self._fence:
            match = _FENCE.match(line)
            if match and not match[2].strip() and match[1].startswith(self._fence):
                self._fence = ""
            self._blank_lines = 0
            return line[before:] + newline
        if not line.strip():
            self._blank_lines += 1
            return line[before:] + newline if before else newline
        match = _FENCE.match(line) if not self._line_open else None
        if match and not (match[1][0] == "`" and "`" in match[2]):
            self._fence = match[1]
            self._blank_lines = 0
            return line[before:] + newline
        clean, found = self._without_directives(line)
        if found and not clean.strip(" \t-*") and not before:
            return ""  # it had nothing but directives
        self._blank_lines = 0
        return clean[before:] + newline

    def _without_directives(self, line: str) -> tuple[str, bool]:
        """The line as it is shown; what it asks for is kept."""
        if len(line) > LONGEST_LINE:
            return line, False
        code = [match.span() for match in _CODE.finditer(line)]
        cuts: list[tuple[int, int]] = []

        def free(start: int) -> bool:
            inside_code = any(begin <= start < end for begin, end in code)
            return not inside_code and not any(begin <= start < end for begin, end in cuts)

        for match in _MEDIA.finditer(line):
            whole = any(begin <= match.start() and match.end() <= end <= match.end() + 1 for begin, end in code)
            if free(match.start()) or whole:
                path = next(group for group in match.groups() if group is not None)
                trimmed = path if match[4] is None else path.rstrip(".,;:!?)]}`\"'")
                if trimmed.startswith(("/", "~/")):
                    end = match.end() if match[4] is None or trimmed == path else match.start(4) + len(trimmed)
                    while whole and line[end : end + 1] == "`":
                        end += 1
                    cuts.append((match.start(), end))
                    self.wanted.append(Wanted(trimmed, "media"))
        for word in (VOICE, STICKER):
            at = line.find(word)
            while at >= 0:
                if free(at):
                    cuts.append((at, at + len(word)))
                    self.voice |= word == VOICE
                    self.sticker |= word == STICKER
                at = line.find(word, at + 1)
        if self._images:
            for match in _IMAGE.finditer(line):
                if free(match.start()) and looks_like_image(match[2]):
                    cuts.append(match.span())
                    self.wanted.append(Wanted(match[2], "image", match[1]))
            for match in _HTML_IMAGE.finditer(line):
                if free(match.start()):
                    cuts.append(match.span())
                    self.wanted.append(Wanted(match[1], "image"))
        for match in _LOCAL.finditer(line):
            if free(match.start()):
                self.wanted.append(Wanted(match[0], "local"))
        for begin, end in sorted(cuts, reverse=True):
            line = line[:begin] + line[end:]
        return line, bool(cuts)


def read(text: str, *, images: bool = True) -> Reply:
    """A whole text. One that is nothing but a thought that never ends is shown, for it is all that there is."""
    screen = Screen(images=images)
    shown = screen.feed(text) + screen.pause()
    if screen.thinking and not shown.strip() and not screen.wanted:
        match = _THOUGHT.search(text)
        assert match is not None
        shown = text[match.end() :]
    return Reply(shown.strip("\n").rstrip(), tuple(screen.wanted), screen.voice, screen.sticker)


def without_lines(text: str, paths: Iterable[str]) -> str:
    """The text without the lines that are one of these paths and nothing else, except in code."""
    unwanted, fence, kept = set(paths), "", []
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if match and (not fence or (match[1].startswith(fence) and not match[2].strip())):
            fence = "" if fence else match[1]
        elif not fence and line.strip(" \t-*") in unwanted:
            continue
        kept.append(line)
    return "\n".join(kept).strip("\n")


def looks_like_image(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if any(host in (parts.hostname or "") for host in _IMAGE_HOSTS):
        return True
    return PurePosixPath(parts.path).suffix.lower().removeprefix(".") in IMAGE_ENDINGS
