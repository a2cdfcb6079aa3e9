"""Runs a module of hermesd's on an interpreter that hermesd is not installed in.

``PYTHON -P .../workers/elsewhere.py MODULE [ARGUMENT...]`` is what ``PYTHON -m MODULE`` is where hermesd is installed.
It makes the package ``hermesd`` out of the folder that this file lies in and of nothing else: what hermesd's own
interpreter has installed stays out of sight, so that an agent whose libraries conflict with hermesd's has only its own.
The folder is ``site-packages/hermesd`` of a wheel, or a checkout; ``ipc`` and ``workers`` lie side by side in both.

Imports nothing but the standard library, and nothing of ours before it has made it importable.
"""

from __future__ import annotations

import os
import sys
import types

HERE = os.path.abspath(__file__)


def command(module: str, python: str = "") -> list[str]:
    """The start of a command that runs ``module``, on ``python`` or, without one, as this process itself runs."""
    if python or _is_ours(sys.modules.get("hermesd")):
        # -P: the folder of this file has modules with names that others may have, too.
        return [python or sys.executable, "-P", HERE, module]
    return [sys.executable, "-m", module]


def _is_ours(package: types.ModuleType | None) -> bool:
    return getattr(package, "__file__", None) == HERE


def _make_package() -> None:
    package = types.ModuleType("hermesd", __doc__)
    package.__path__ = [os.path.dirname(os.path.dirname(HERE))]
    package.__file__ = HERE
    sys.modules["hermesd"] = package


def main() -> None:
    import runpy

    _make_package()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a child that an agent starts by multiprocessing's "spawn" has to find it, too
    _make_package()
