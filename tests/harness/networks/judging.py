"""Whether what a bot has shown for a number is right: all of it, in order, and once, except behind a mark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

from .network import Answer

CURSOR = "\u2589"
_NUMBERED = re.compile(r"\s\(\d+/\d+\)$")


@dataclass(frozen=True, slots=True)
class Expected:
    text: str
    files: tuple[str, ...] = ()


@dataclass(slots=True)
class Verdict:
    """``tries``: how often something was begun, the first time and after each mark."""

    missing: str = ""
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tries: int = 0
    beginnings: int = 0  # tries before the last that had shown only a part


def judge(shown: Iterable[Answer], expected: Expected) -> Verdict:
    """Texts may be cut anywhere and files may come in any number of messages; but between two marks nothing may come
    twice, and each thing comes behind what was before it in the answer. A beginning with its cursor may stay above a
    mark, below which it begins anew.
    """
    verdict = Verdict()
    whole = _pressed(expected.text)
    covered: list[tuple[int, int]] = []
    files: set[str] = set()
    tries = _tries(sorted(shown, key=lambda answer: answer.at))
    for number, answers in enumerate(tries):
        last = number == len(tries) - 1
        end, seen, own = -1, [], 0
        for answer in answers:
            text = _pressed(_bare(answer.text))
            if text:
                # What goes on from where the last one ended may be so short that it reads like something earlier, too.
                begins = end if end >= 0 and whole.startswith(text, end) else whole.find(text)
                if begins < 0:
                    verdict.wrong.append(f"it reads {answer.text!r}")
                    continue
                if begins < end:
                    verdict.twice.append(answer.text)
                elif seen:
                    verdict.wrong.append(f"{answer.text!r} comes behind {seen}")
                if last and answer.text.rstrip().endswith(CURSOR):
                    verdict.wrong.append(f"it is never finished: {answer.text!r}")
                end = max(end, begins + len(text))
                own += len(text)
                covered.append((begins, begins + len(text)))
            for name in answer.files:
                if name not in expected.files:
                    verdict.wrong.append(f"nobody asked for {name}")
                elif name in seen:
                    verdict.twice.append(name)
                elif seen and expected.files.index(name) < expected.files.index(seen[-1]):
                    verdict.wrong.append(f"{name} comes behind {seen[-1]}")
                seen.append(name)
                files.add(name)
        verdict.beginnings += not last and own < len(whole)
    verdict.tries = len(tries)
    gap = _first_gap(covered)
    if gap < len(whole) or files != set(expected.files):
        verdict.missing = f"{gap} of {len(whole)} characters, not {whole[gap : gap + 20]!r}, and the files {files}"
    return verdict


def _first_gap(covered: list[tuple[int, int]]) -> int:
    at = 0
    for begins, ends in sorted(covered):
        if begins > at:
            break
        at = max(at, ends)
    return at


def _tries(answers: Sequence[Answer]) -> list[list[Answer]]:
    tries: list[list[Answer]] = []
    for answer in answers:
        if not tries or answer.text.startswith(PERHAPS_AGAIN):
            tries.append([])
        tries[-1].append(answer)
    return tries


def _bare(text: str) -> str:
    """Without what is not the agent's own."""
    text = text.removeprefix(PERHAPS_AGAIN).rstrip().removesuffix(CURSOR).rstrip()
    return _NUMBERED.sub("", text)


def _pressed(text: str) -> str:
    return "".join(text.split())
