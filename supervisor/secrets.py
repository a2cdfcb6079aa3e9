"""What of the configuration must not stand in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hermesd.ipc.redaction import names_a_secret
from hermesd.supervisor.config.settings import Settings


def secrets_in(settings: Settings) -> Iterator[str]:
    """Keys of models and platforms, tokens, and all that MCP servers are handed in ``env`` and ``headers``."""
    for model in (settings.model, *settings.fallback_providers, *settings.fallback_model):
        yield model.api_key
    for platform in settings.platforms.values():
        yield platform.token
        yield platform.api_key
        yield from _named(platform.extra)
    for server in settings.mcp_servers.values():
        yield from server.env.values()
        for value in server.headers.values():
            yield value
            # "Bearer abc": the part behind the scheme also appears alone.
            yield value.rpartition(" ")[2]
        yield server.oauth.client_secret
        yield from server.client_cert[2:]


def _named(extra: Mapping[str, Any]) -> Iterator[str]:
    for name, value in extra.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif names_a_secret(name) or str(name).lower().endswith("key"):
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str))
