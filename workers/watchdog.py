"""A timer that ends the process also while C code holds the interpreter's lock, when no thread of Python runs.

It is the thread of ``faulthandler``, which needs no lock: it writes every stack and calls ``_exit``. A process has one.
"""

from __future__ import annotations

import faulthandler


class Watchdog:
    """``stacks``: the descriptor of a file, which has to stay open."""

    def __init__(self, stacks: int):
        self._stacks = stacks

    def wind_up(self, seconds: float) -> None:
        """End the process after so many seconds, counted from now. Costs some 30 microseconds."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._stacks)

    def let_go(self) -> None:
        faulthandler.cancel_dump_traceback_later()
