"""``python -m hermesd.workers FD [CGROUP ...]``: a worker by exec, where fork is unsafe or absent.

FD holds its spec; the cgroups of v1 are those of its ceilings.
"""

from __future__ import annotations

import sys

from hermesd.workers import containment
from hermesd.workers.containment.ceiling import Hold
from hermesd.workers.main import read_spec, run


def main() -> int:
    spec = read_spec(int(sys.argv[1]))
    contained = containment.open_containment(spec.containment, spec.instance, place=spec.container)
    contained.worker(spec.worker, spec.tag).enter()
    Hold(sys.argv[2:]).enter()
    return run(spec)


if __name__ == "__main__":
    sys.exit(main())
