"""The exit status of a request for several sessions."""

from __future__ import annotations

import json
from typing import cast

import pytest

from hermesd.supervisor.cli.options import Options
from hermesd.supervisor.cli.outcomes import report, report_begun
from hermesd.supervisor.control.shapes import OutcomesDocument


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["done", "done"], 0),
        (["done", "not_found"], 8),
        (["failed", "not_found"], 1),
        (["timed_out"], 9),
        (["done", "timed_out"], 9),
        (["failed", "timed_out"], 1),
        (["done", "failed", "timed_out"], 8),
    ],
)
def test_it_tells_all_from_some_and_none_and_from_what_still_goes_on(outcomes: list[str], status: int) -> None:
    rows = [{"session": f"s{number}", "outcome": word, "detail": ""} for number, word in enumerate(outcomes)]
    assert report(Options(), cast("OutcomesDocument", {"schema": 1, "sessions": rows}), "restarted") == status


@pytest.mark.parametrize(("asked", "not_found", "status"), [(1, [], 0), (2, ["nope"], 8), (1, ["nope"], 1)])
def test_what_only_began_names_the_sessions_that_there_are_none_of(
    asked: int, not_found: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_begun(Options(json=True), "restarting", asked, not_found) == status
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "restarting"
    assert [row["session"] for row in document.get("sessions", [])] == not_found
