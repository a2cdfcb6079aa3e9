"""The configuration: read once at the start and at each reload, checked whole, then passed around frozen.

``load`` is called by ``supervisor.app`` and by ``hermesd --check``; everything else is given the part of
`Settings` that it needs.
"""

from .budget import StopBudget, derive
from .errors import ConfigError, Origin, Problem
from .loader import Loaded, load
from .settings import (
    Access,
    Hermesd,
    McpServer,
    Platform,
    Section,
    SessionReset,
    Settings,
    ToolFilter,
    Web,
    Workers,
    schema,
)

__all__ = [
    "Access",
    "ConfigError",
    "Hermesd",
    "Loaded",
    "McpServer",
    "Origin",
    "Platform",
    "Problem",
    "Section",
    "SessionReset",
    "Settings",
    "StopBudget",
    "ToolFilter",
    "Web",
    "Workers",
    "derive",
    "load",
    "schema",
]
