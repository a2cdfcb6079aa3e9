"""The one place that names the version of the package and of the wire."""

from typing import Final

VERSION: Final = "0.1.0"

WIRE_VERSION: Final = 1
"""The ``v`` of every envelope. A peer that sends another one is refused (`hermesd.ipc.errors.Incompatible`)."""
