"""``python -m hermesd.workers FD``: a worker by exec, where fork is unsafe or absent. FD holds its spec."""

from __future__ import annotations

import sys

from hermesd.workers import containment
from hermesd.workers.main import read_spec, run


def main() -> int:
    spec = read_spec(int(sys.argv[1]))
    contained = containment.open_containment(spec.containment, spec.instance, place=spec.container)
    contained.worker(spec.worker, spec.tag).enter()
    return run(spec)


if __name__ == "__main__":
    sys.exit(main())
