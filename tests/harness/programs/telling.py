"""An agent of the tests whose answer to a numbered message is known beforehand; most are written word by word."""

import asyncio
import re


def answer_to(number):
    words = " ".join(f"{number}.{word}" for word in range(3 + number % 12))
    return f"Answer to number {number}: {words} end of {number}."


class Telling:
    async def turn(self, turn, out):
        number = int(re.search(r"number (\d+)", turn.text)[1])
        text = answer_to(number)
        for word in text.split(" "):
            await out.delta(f"{word} ")
            if number % 4:
                await asyncio.sleep(0.04)
        return text


def make(session):
    return Telling()
