"""Identifiers that cross process borders.

They are opaque outside the place that makes them: compare and print them, never take them apart.
"""

from typing import NewType

SessionKey = NewType("SessionKey", str)
"""One conversation, by the grammar of ``supervisor/sessions/key.py`` (``agent:main:telegram:dm:42``)."""

SessionId = NewType("SessionId", str)
"""One life of a session between two resets (``20261122_185500_1a2b3c4d``)."""

WorkerId = NewType("WorkerId", str)
"""One worker process, new for every start (``w12``). Doubles as the name of its container."""

TurnId = NewType("TurnId", str)
"""One run of an agent for one message; dispatch is idempotent by it."""

AskId = NewType("AskId", str)
"""One question of an agent to its user (an approval)."""
