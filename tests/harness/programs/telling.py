"""An agent of the tests whose answer to a numbered message is known beforehand: short, or in two stretches with a tool
between them, or longer than a message may be, or with two files. Most are written word by word."""

import asyncio
import re
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)

FILES, CAPTIONED, TOOL, LONG = 5, 8, 7, 10
"""Of twelve numbers: which are answered so. Files come behind a text that is shown already, or with one as caption."""

LENGTHS = (4_500, 11_000)
"""Characters of long answers: two messages of Telegram's and three of Discord's; and three, six, and two of Matrix'."""

BREAK = "\n\n"


def answer_to(number):
    """The text of the whole answer, without what asks for files."""
    words = [f"{number}.{word}" for word in range(3 + number % 12)]
    text = f"Answer to number {number}: {' '.join(words)} end of {number}."
    if number % 12 == TOOL:
        return f"Let me look for number {number}.{BREAK}{text}"
    if number % 12 == LONG:
        length = LENGTHS[number // 12 % 2]
        stretches = [
            f"stretch {at} of number {number}," for at in range(length // len(f"stretch 100 of number {number}, "))
        ]
        return f"{text} {' '.join(stretches)} and no more of number {number}."
    return text


def files_of(number):
    """The names of its files."""
    if number % 12 not in (FILES, CAPTIONED):
        return ()
    first = "png" if number // 12 % 2 else "txt"  # two of a kind are an album, others are not
    return (f"number-{number}-a.{first}", f"number-{number}-b.txt")


class Telling:
    def __init__(self, session):
        self._place = Path(session.workdir)

    async def turn(self, turn, out):
        number = int(re.search(r"number (\d+)", turn.text)[1])
        text = answer_to(number)
        at_once = 40 if number % 12 == LONG else 1
        before, gap, after = text.rpartition(BREAK)
        if gap:
            await self._say(before + gap, out, at_once, number)
            await out.tool("look", {"for": number}, "started")
            await asyncio.sleep(0.05)
            await out.tool("look", {"for": number}, "done")
        await self._say(after, out, at_once, number)
        return "\n".join([text, *(f"MEDIA:{self._file(name)}" for name in files_of(number))])

    async def _say(self, text, out, at_once, number):
        words = text.split(" ")
        for begin in range(0, len(words), at_once):
            await out.delta(" ".join(words[begin : begin + at_once]) + " ")
            if number % 4:
                await asyncio.sleep(0.04)

    def _file(self, name):
        path = self._place / name
        path.write_bytes(PNG if name.endswith("png") else f"This is {name}.".encode())
        return path


def make(session):
    return Telling(session)
