"""A configuration looked at without hermesd, for ``hermesctl config`` and ``hermesctl doctor``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermesd.supervisor import surroundings
from hermesd.supervisor.config.errors import ConfigError, Problem
from hermesd.supervisor.config.loader import load
from hermesd.supervisor.config.settings import schema as schema


@dataclass(frozen=True, slots=True)
class Report:
    """``problems``: severity ("error", "warning", "note") and problem, as they stand in the files."""

    problems: tuple[tuple[str, Problem], ...]
    files: tuple[Path, ...]

    @property
    def valid(self) -> bool:
        return all(severity != "error" for severity, _ in self.problems)


def check(home: Path, file: Path | None, *, everything: bool = True) -> Report:
    """Read it as a start would. ``everything``: also what a start leaves for later, as importing the agent."""
    try:
        loaded = load(home, file, os.environ)
    except ConfigError as error:
        return Report(tuple(("error", problem) for problem in error.problems), ())
    problems = [("note" if problem.quiet else "warning", problem) for problem in loaded.warnings]
    if everything:
        problems += surroundings.examine(loaded, home)
    else:
        problems += (("warning", problem) for problem in surroundings.missing_commands(loaded))
        if (unfit := surroundings.interpreter_problem(loaded)) is not None:
            problems.append(("error", unfit))
    return Report(tuple(problems), loaded.files)


def as_json(severity: str, problem: Problem) -> dict[str, Any]:
    origin = problem.origin
    return {
        "severity": severity, "key": problem.key, "message": problem.message, "fix": problem.fix,
        "file": origin.file, "line": origin.line or None, "column": origin.column or None,
    }  # fmt: skip
