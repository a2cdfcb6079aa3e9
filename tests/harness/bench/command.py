"""The command line of ``scripts/bench``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from . import report
from .catalogue import MEASUREMENTS, measurement
from .effort import QUICK, WHOLE
from .row import Row


def main(words: Sequence[str]) -> int:
    """Exit status 0, also when ours is the slower one: a bench measures, it does not judge."""
    options = _parser().parse_args(words)
    if unknown := [name for name in options.rows if name not in MEASUREMENTS]:
        _parser().error(f"there is no row {', '.join(unknown)}; choose of {', '.join(MEASUREMENTS)}")
    effort = QUICK if options.quick else WHOLE
    if options.runs is not None:
        effort = replace(effort, runs=options.runs)
    if options.idle_sessions is not None:
        effort = replace(effort, idle_sessions=options.idle_sessions)
    if options.kills is not None:
        effort = replace(effort, kills=options.kills)
    if options.json is not None and not options.json.parent.is_dir():
        _parser().error(f"cannot write {options.json}: {options.json.parent} is no directory")
    # A terminated bench ends its hermesd as one that was interrupted does.
    signal.signal(signal.SIGTERM, _end)
    machine = report.machine()
    began = time.monotonic()
    rows: list[Row] = []
    for name in options.rows or MEASUREMENTS:
        _say(f"{name}: {MEASUREMENTS[name]}")
        started = time.monotonic()
        rows += measurement(name)(effort, partial(_say_of, name))
        _say(f"{name}: done in {time.monotonic() - started:.1f} s")
    took = time.monotonic() - began
    print(report.as_table(rows, machine, took))
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(rows, machine, took), indent=1) + "\n", "utf-8")
        _say(f"wrote {options.json}")
    return 0


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, MEASUREMENTS))
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures hermesd beside what people would use in its place. The table goes to stdout.",
        epilog="Rows:\n" + "\n".join(f"  {name:<{width}} {what}" for name, what in MEASUREMENTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure; everything if none is named")
    parser.add_argument("--runs", type=_positive, help=f"values that a median is taken of ({WHOLE.runs})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured into this file, too")
    parser.add_argument(
        "--idle-sessions", type=_positive, help=f"idle sessions of the row memory ({WHOLE.idle_sessions})"
    )
    parser.add_argument("--kills", type=_positive, help=f"trees in each run of the row kill ({WHOLE.kills})")
    parser.add_argument("--quick", action="store_true", help="only see that every row works; its figures mean nothing")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_of(name: str, line: str) -> None:
    _say(f"{name}: {line}")


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)
