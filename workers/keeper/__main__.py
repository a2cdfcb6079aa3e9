"""``python -m hermesd.workers.keeper``: started by the supervisor, told everything on standard input."""

from __future__ import annotations

import os
import sys

from hermesd.ipc import codec
from hermesd.workers.spec import KeeperSpec

from . import birth
from .keeper import Keeper


def main() -> int:
    # What whoever started hermesd had open is no business of a process that outlives it.
    birth.close_from(3)
    with os.fdopen(0, "rb", closefd=False) as told:
        spec = codec.unpack_value(KeeperSpec, told.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return Keeper(spec).run()


if __name__ == "__main__":
    sys.exit(main())
