"""The ways in as the core sees them: which there are, how each is connected, and who else uses its token."""

from .platforms import Platforms

__all__ = ["Platforms"]
