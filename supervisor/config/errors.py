"""What is wrong with the configuration, said so that its owner can mend it without reading anything else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

ENVIRONMENT = "environment"
"""The ``file`` of a setting that came from an environment variable."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written. Line and column count from 1; 0 = unknown."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file, *(str(number) for number in (self.line, self.column) if number)]
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what (``key``, ``message``), where (``origin``) and what would be right (``fix``)."""

    key: str  # "hermesd.workers.max"; the name of a variable; "" for the file as a whole
    message: str
    fix: str = ""
    origin: Origin = Origin()
    quiet: bool = False  # worth a word, yet nothing that its owner should change

    @property
    def sentence(self) -> str:
        """What and where in one line, without the fix."""
        where = f" ({self.origin})" if self.origin.file else ""
        return f"{self.key}: {self.message}{where}" if self.key else f"{self.message}{where}"

    def render(self, severity: str = "error") -> str:
        """As a terminal shows it, over up to three lines."""
        lines = [f"{severity}: {self.key}: {self.message}" if self.key else f"{severity}: {self.message}"]
        if self.origin.file:
            lines.append(f"  --> {self.origin}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class ConfigError(Exception):
    """The configuration cannot be used; nothing of it was applied. Carries every problem, not only the first, and the
    ``warnings`` that were found on the way, for one of them may be the cause."""

    def __init__(self, problems: Iterable[Problem], warnings: Iterable[Problem] = ()):
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        super().__init__("\n".join(problem.render() for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return found[0] if found else None
