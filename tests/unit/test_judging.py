"""The checker of the soak finds what is missing, comes twice, is unfinished, or stands in the wrong place."""

from __future__ import annotations

import pytest
from harness.networks.judging import CURSOR, Expected, judge
from harness.networks.network import Answer
from harness.programs.telling import CAPTIONED, LONG, TOOL, answer_to, files_of

from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

TEXT = answer_to(LONG)
LONG_ONE = Expected(TEXT)
FILES = Expected(answer_to(CAPTIONED), files_of(CAPTIONED))
A, B = FILES.files
FIRST, SECOND, THIRD = f"{TEXT[:2000]} (1/3)", f"{TEXT[2000:4000]} (2/3)", f"{TEXT[4000:]} (3/3)"
AGAIN = f"{PERHAPS_AGAIN}\n\n"

Shown = str | tuple[str, ...]


def answers(*shown: Shown) -> list[Answer]:
    """Texts, and files as tuples of a caption and names."""
    return [
        Answer(one, at) if isinstance(one, str) else Answer(one[0], at, tuple(one[1:])) for at, one in enumerate(shown)
    ]


@pytest.mark.parametrize(
    ("shown", "expected", "tries"),
    [
        ((FIRST, SECOND, THIRD), LONG_ONE, 1),
        ((FIRST, SECOND, AGAIN + SECOND, THIRD), LONG_ONE, 2),
        ((TEXT[:700] + CURSOR, AGAIN + FIRST, SECOND, THIRD), LONG_ONE, 2),
        (tuple(answer_to(TOOL).split("\n\n")), Expected(answer_to(TOOL)), 1),
        ((answer_to(TOOL),), Expected(answer_to(TOOL)), 1),
        ((FILES.text, ("", A, B)), FILES, 1),
        (((FILES.text, A), ("", B)), FILES, 1),
        ((FILES.text, ("", A), ("", B), (PERHAPS_AGAIN, A), ("", B)), FILES, 2),
    ],
)
def test_what_is_right(shown: tuple[Shown, ...], expected: Expected, tries: int) -> None:
    verdict = judge(answers(*shown), expected)
    assert (verdict.missing, verdict.twice, verdict.wrong, verdict.tries) == ("", [], [], tries)


@pytest.mark.parametrize(
    ("shown", "expected", "where"),
    [
        ((), LONG_ONE, "missing"),
        ((FIRST, THIRD), LONG_ONE, "missing"),
        ((FIRST, SECOND), LONG_ONE, "missing"),
        ((FIRST, SECOND, SECOND, THIRD), LONG_ONE, "twice"),
        ((TEXT[:700] + CURSOR, FIRST, SECOND, THIRD), LONG_ONE, "twice"),
        ((FIRST, THIRD, SECOND), LONG_ONE, "twice"),
        ((FIRST, SECOND, THIRD + CURSOR), LONG_ONE, "wrong"),
        ((FIRST, SECOND, THIRD, "Traceback"), LONG_ONE, "wrong"),
        ((FILES.text, ("", A)), FILES, "missing"),
        ((FILES.text, ("", A), ("", A), ("", B)), FILES, "twice"),
        ((FILES.text, ("", A), ("", A), (PERHAPS_AGAIN, A), ("", B)), FILES, "twice"),
        ((FILES.text, ("", B), ("", A)), FILES, "wrong"),
        ((("", A, B), FILES.text), FILES, "wrong"),
        ((FILES.text, ("", A, B, "number-1-a.txt")), FILES, "wrong"),
    ],
)
def test_what_is_not(shown: tuple[Shown, ...], expected: Expected, where: str) -> None:
    assert getattr(judge(answers(*shown), expected), where)
