"""The environments that scripts/lib/hermes.sh makes for hermes-agent."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]

PYTHON = ROOT / "build" / "hermes-venv" / "bin" / "python"
"""With the version that the tests use."""


def python_of(version: str) -> Path:
    return ROOT / "build" / f"hermes-{version}-venv" / "bin" / "python"


def has_hermes(python: Path = PYTHON) -> bool:
    return (python.parents[1] / ".set-up").exists()
