"""``python -m hermesd.workers.keeper.probe MODULE``: how many threads there are once a module is imported."""

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    importlib.import_module(sys.argv[1])
    print(len(os.listdir("/proc/self/task")))
