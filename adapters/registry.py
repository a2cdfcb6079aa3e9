"""Finds an adapter by its platform's name: the only file that names concrete ones.

Nothing is imported before it is asked for, so that a missing client library makes one platform unavailable and nothing
else. Third parties register theirs in the entry-point group ``hermesd.adapters``: a callable that takes an
`AdapterSettings` and returns an `Adapter`.
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

from hermesd.adapters.contract import Adapter, AdapterSettings
from hermesd.adapters.errors import AdapterError, Unavailable

GROUP = "hermesd.adapters"

_REQUIRED = ("name", "start", "stop", "send", "capabilities", "state", "describe")

log = logging.getLogger(__name__)

Factory = Callable[[AdapterSettings], Adapter]


class UnknownPlatform(AdapterError):
    """The configuration names a platform that neither hermesd nor an installed package brings."""


@dataclass(frozen=True, slots=True)
class _Builtin:
    module: str
    factory: str
    pip: str = "pip install hermesd"


_BUILTIN = {
    "local": _Builtin("hermesd.adapters.local.adapter", "LocalAdapter"),
    "api_server": _Builtin("hermesd.adapters.api_server.adapter", "ApiServerAdapter", "pip install aiohttp"),
    "discord": _Builtin("hermesd.adapters.discord.adapter", "DiscordAdapter", "pip install 'hermesd[discord]'"),
    "telegram": _Builtin("hermesd.adapters.telegram.adapter", "TelegramAdapter", "pip install 'hermesd[telegram]'"),
    "fake": _Builtin("hermesd.adapters.fake", "FakeAdapter"),
    "webhook": _Builtin("hermesd.adapters.webhook.adapter", "WebhookAdapter", "pip install aiohttp"),
    "matrix": _Builtin("hermesd.adapters.matrix.adapter", "MatrixAdapter", "pip install 'hermesd[matrix]'"),
}


def names() -> tuple[str, ...]:
    """Every platform that can be named in the configuration, built in or registered by an installed package."""
    return tuple(sorted({*_BUILTIN, *(point.name for point in _entry_points())}))


def make(name: str, settings: AdapterSettings | Mapping[str, Any]) -> Adapter:
    """Build the adapter of one platform, not started yet.

    ``settings`` is its part of the configuration: ``enabled``, ``token``, ``api_key`` and the mapping ``extra``.
    Raises `UnknownPlatform`, `Unavailable` when its client library is not installed, and `AdapterError` for settings
    that it refuses.
    """
    made = _factory(name)(_as_settings(name, settings))
    missing = [word for word in _REQUIRED if not hasattr(made, word)]
    if missing:
        raise AdapterError(f"cannot use platform {name!r}: its adapter lacks {', '.join(missing)}")
    return made


def _as_settings(name: str, settings: AdapterSettings | Mapping[str, Any]) -> AdapterSettings:
    if isinstance(settings, AdapterSettings):
        return settings
    extra = settings.get("extra") or {}
    if not isinstance(extra, Mapping):
        raise AdapterError(f"cannot use platform {name!r}: extra must be a mapping, not {type(extra).__name__}")
    return AdapterSettings(
        name=name,
        enabled=bool(settings.get("enabled", True)),
        token=str(settings.get("token") or ""),
        api_key=str(settings.get("api_key") or ""),
        extra=dict(extra),
    )


def _factory(name: str) -> Factory:
    builtin = _BUILTIN.get(name)
    if builtin is not None:
        try:
            return cast(Factory, getattr(importlib.import_module(builtin.module), builtin.factory))
        except ImportError as error:
            raise _unavailable(name, error, builtin.pip) from error
    for point in _entry_points():
        if point.name == name:
            package = point.dist.name if point.dist else point.value.partition(":")[0]
            try:
                return cast(Factory, point.load())
            except (ImportError, AttributeError) as error:
                raise _unavailable(name, error, f"pip install --upgrade {package}") from error
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names())}"
    raise UnknownPlatform(f"unknown platform {name!r}: {hint}")


def _unavailable(name: str, error: Exception, pip: str) -> Unavailable:
    return Unavailable(f"platform {name!r} is unavailable: {error}; install what it needs with: {pip}")


def _entry_points() -> list[metadata.EntryPoint]:
    points = []
    for point in metadata.entry_points(group=GROUP):
        if point.name in _BUILTIN:
            log.warning("ignoring %s of %s: platform %r is built in", GROUP, point.value, point.name)
        else:
            points.append(point)
    return points
