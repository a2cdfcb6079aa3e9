"""``scripts/soak``: one case, many rounds, replayable by its seed."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import random
import sys
import time
from pathlib import Path

from harness import figures

CASES = Path(__file__).parent / "cases"

TIMES = {
    "kill-worker": 50, "kill-hermesd": 20, "starts": 50, "two-homes": 10, "hogs": 5, "hang": 20, "crashes": 10,
    "adopt": 20, "kill-keeper": 20, "kill-both": 10, "recycled": 1000, "journal": 200, "lost": 20,
    "frames": 100_000, "logflood": 1, "kills": 250, "platforms": 1000, "failing-model": 1, "leak": 200,
    "mcp-budget": 1, "mcp-reconnect": 500, "oauth": 30, "shared": 10, "unused": 3, "burn": 1,
}  # fmt: skip
"""Rounds of a case that names no number; 3 for the others."""


def names() -> list[str]:
    return sorted(path.stem.replace("_", "-") for path in CASES.glob("*.py") if path.stem != "__init__")


def purpose(name: str) -> str:
    """The first line of the case's docstring."""
    tree = ast.parse((CASES / f"{name.replace('-', '_')}.py").read_text("utf-8"))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def main() -> int:
    listing = "\n".join(f"  {name:<14}{purpose(name)}" for name in names())
    parser = argparse.ArgumentParser(
        "scripts/soak", description="Cases:\n" + listing, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="?", choices=names(), metavar="CASE")
    parser.add_argument("--times", type=int, help="rounds")
    parser.add_argument("--minutes", type=float, help="instead of rounds: for as long as this (kills)")
    parser.add_argument("--only", action="append", help="one network, or several (platforms)")
    parser.add_argument("--seed", type=int, help="the same seed makes the same choices; default: a new one, told")
    arguments = parser.parse_args()
    if arguments.case is None:
        parser.print_help()
        return 0
    times = arguments.times or TIMES.get(arguments.case, 3)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"{arguments.case} --times {times} --seed {seed}", file=sys.stderr)
    case = importlib.import_module(f"harness.cases.{arguments.case.replace('-', '_')}")
    limits = {name: value for name in ("minutes", "only") if (value := getattr(arguments, name))}
    document = {"schema": 1, "case": arguments.case, "times": times, "seed": seed}
    figures.STRICT = True
    began = time.monotonic()
    try:
        document |= {
            "kept": True,
            "result": case.run(times, seed, lambda line: print(line, file=sys.stderr, flush=True), **limits),
        }
    except AssertionError as broken:
        document |= {"kept": False, "broken": str(broken)}
    document["took_s"] = round(time.monotonic() - began, 1)
    print(json.dumps(document, indent=1))
    return 0 if document["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
