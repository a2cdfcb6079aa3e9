"""Commands that are suggested to a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.supervisor.cli.checkup import BETTER_CONTAINMENT
from hermesd.supervisor.cli.options import Options


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("hermesctl sessions list", "hermesctl --home '/a b' sessions list"),
        ("hermesd --daemon, which clears it away", "hermesd --home '/a b' --daemon, which clears it away"),
        ("hermesctl logs, and kill -ABRT 7", "hermesctl --home '/a b' logs, and kill -ABRT 7"),
        ("hermesd --home /x --daemon", "hermesd --home /x --daemon"),
        ("hermesd makes it at its first start", "hermesd makes it at its first start"),
        ("kill -CONT 7", "kill -CONT 7"),
    ],
)
def test_they_mean_the_home_that_was_named(text: str, suggested: str) -> None:
    assert Options(home=Path("/a b")).suggest(text) == suggested
    assert Options().suggest(text) == text


def test_also_inside_another_program() -> None:
    assert "Delegate=yes hermesd --home /x, or" in Options(home=Path("/x")).suggest(BETTER_CONTAINMENT)
