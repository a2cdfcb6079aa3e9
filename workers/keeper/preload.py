"""Importing ahead what every worker will need, and proving that a fork is still sound afterwards.

A module that starts a thread at import makes every later fork unsound: the child would hold that thread's locks without
the thread. Python cannot stop such a thread again, so the keeper that finds one says so and has its workers exec'd.
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from hermesd.workers import elsewhere


@dataclass(frozen=True, slots=True)
class Preloaded:
    """``single_threaded`` False: do not fork. ``warnings`` name what was left out and why."""

    single_threaded: bool
    warnings: tuple[str, ...]


def threads() -> int:
    """Threads of this process by the kernel's count, so that those of C libraries are seen too."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1


def preload(modules: Iterable[str], *, probed: Iterable[str] = ()) -> Preloaded:
    """Import ``modules``; import ``probed`` ones only if a throw-away process shows that they start no thread.

    Ours are trusted, and what they import; an agent's own modules are probed first: once such a thread exists it is too
    late.
    """
    warnings: list[str] = []
    for module in probed:
        if not module.startswith("hermesd.") and not _starts_no_thread(module, warnings):
            continue
        _import(module, warnings)
    for module in modules:
        _import(module, warnings)
    _settle_heap()
    return Preloaded(threads() == 1, tuple(warnings))


def _settle_heap() -> None:
    """Keep the children's hands off what they share with this process: a page that is written to is a page copied."""
    gc.collect()
    if sys.version_info < (3, 12):
        # It holds the names of the attributes looked up last. A child that looks up others lets go of those, and writes
        # a reference count into 125 pages all over the heap. From 3.12 on, names are immortal: they have none.
        sys._clear_type_cache()
    # Frozen objects are left alone by the collector of each child.
    gc.freeze()


def _import(module: str, warnings: list[str]) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - an agent's module may raise anything; its workers will report it in full
        warnings.append(f"cannot preload {module}: {type(error).__name__}: {error}")


def _starts_no_thread(module: str, warnings: list[str]) -> bool:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    try:
        probe = subprocess.run(
            [*elsewhere.command("hermesd.workers.keeper.probe"), module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        warnings.append(f"{module} left out of the preload: importing it takes over 30 s")
        return False
    if probe.returncode != 0:
        last = probe.stderr.strip().splitlines()[-1:] or ["no message"]
        warnings.append(f"{module} left out of the preload: {last[0]}")
        return False
    if probe.stdout.strip().splitlines()[-1:] != ["1"]:
        warnings.append(f"{module} left out of the preload: it starts a thread when imported")
        return False
    return True
