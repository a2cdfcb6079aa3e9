"""The environment: ``.env`` in the home, ``${NAME}`` in values, and the variables that are settings.

Nothing here reads or writes ``os.environ``; the mapping is passed in.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from dotenv.variables import parse_variables

from .document import KeyPath, read_text
from .errors import ENVIRONMENT, Origin, Problem

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Environment:
    """Names and values, those of the process over those of ``.env``, and where each was written."""

    values: Mapping[str, str]
    origins: Mapping[str, Origin]
    warnings: tuple[Problem, ...] = ()

    def origin(self, name: str) -> Origin:
        return self.origins.get(name, Origin(ENVIRONMENT))


def read_environment(home: Path, environ: Mapping[str, str]) -> Environment:
    """``environ`` over ``home/.env``. Raises ConfigError when that file exists and cannot be read."""
    path = home / ".env"
    try:
        text = read_text(path, ".env")
    except FileNotFoundError:
        return Environment(dict(environ), {})
    values: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    warnings: list[Problem] = []
    for binding in parse_stream(io.StringIO(text)):
        line = binding.original.line + len(binding.original.string) - len(binding.original.string.lstrip("\r\n"))
        origin = Origin(str(path), line)
        if binding.error:
            warnings.append(Problem("", "this line is not understood and was left out", "write NAME=value", origin))
        elif binding.key is not None and binding.value is not None:
            known = {**values, **environ}
            values[binding.key] = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            origins[binding.key] = origin
    for name in environ:
        origins.pop(name, None)
    return Environment({**values, **environ}, origins, tuple(warnings))


def interpolate(value: Any, names: Mapping[str, str]) -> Any:
    """``value`` with ``${NAME}`` replaced in every string of it; an unknown name is left as it stands."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: names.get(match[1], match[0]), value)
    if isinstance(value, list):
        return [interpolate(item, names) for item in value]
    if isinstance(value, dict):
        return {key: interpolate(item, names) for key, item in value.items()}
    return value


def unresolved(text: str) -> list[str]:
    """The names that ``interpolate`` did not know."""
    return _REFERENCE.findall(text)


@dataclass(frozen=True, slots=True)
class Override:
    """A setting that an environment variable gives."""

    path: KeyPath
    value: Any
    name: str


# fmt: off
_SETTINGS: tuple[tuple[str, KeyPath], ...] = (
    ("API_SERVER_ENABLED",    ("platforms", "api_server", "enabled")),
    ("API_SERVER_KEY",        ("platforms", "api_server", "api_key")),
    ("API_SERVER_HOST",       ("platforms", "api_server", "extra", "host")),
    ("API_SERVER_PORT",       ("platforms", "api_server", "extra", "port")),
    ("API_SERVER_MODEL_NAME", ("platforms", "api_server", "extra", "model_name")),
    ("TELEGRAM_BOT_TOKEN",    ("platforms", "telegram", "token")),
    ("TELEGRAM_REPLY_TO_MODE", ("platforms", "telegram", "reply_to_mode")),
    ("DISCORD_BOT_TOKEN",     ("platforms", "discord", "token")),
    ("DISCORD_REPLY_TO_MODE", ("platforms", "discord", "reply_to_mode")),
    ("MATRIX_ACCESS_TOKEN",   ("platforms", "matrix", "token")),
    ("MATRIX_HOMESERVER",     ("platforms", "matrix", "extra", "homeserver")),
    ("MATRIX_USER_ID",        ("platforms", "matrix", "extra", "user_id")),
    ("MATRIX_PASSWORD",       ("platforms", "matrix", "extra", "password")),
    ("MATRIX_DEVICE_ID",      ("platforms", "matrix", "extra", "device_id")),
    ("MATRIX_ENCRYPTION",     ("platforms", "matrix", "extra", "encryption")),
    ("WEBHOOK_ENABLED",       ("platforms", "webhook", "enabled")),
    ("WEBHOOK_HOST",          ("platforms", "webhook", "extra", "host")),
    ("WEBHOOK_PORT",          ("platforms", "webhook", "extra", "port")),
    ("WEBHOOK_SECRET",        ("platforms", "webhook", "extra", "secret")),
    ("TELEGRAM_HOME_CHANNEL", ("platforms", "telegram", "home_channel", "chat_id")),
    ("DISCORD_HOME_CHANNEL",  ("platforms", "discord", "home_channel", "chat_id")),
    ("MATRIX_HOME_ROOM",      ("platforms", "matrix", "home_channel", "chat_id")),
    ("HERMES_AGENT_TIMEOUT",  ("agent", "gateway_timeout")),
    ("SESSION_IDLE_MINUTES",  ("session_reset", "idle_minutes")),
    ("SESSION_RESET_HOUR",    ("session_reset", "at_hour")),
)
# fmt: on

ENABLES: Mapping[str, str] = {
    "API_SERVER_KEY": "api_server",
    "TELEGRAM_BOT_TOKEN": "telegram",
    "DISCORD_BOT_TOKEN": "discord",
    "MATRIX_ACCESS_TOKEN": "matrix",
    "MATRIX_PASSWORD": "matrix",
}
"""Credentials that switch their platform on by being there, unless ``config.yaml`` says ``enabled: false``."""


def overrides(environment: Environment) -> Iterator[Override]:
    """The settings that variables give; an empty variable gives none."""
    for name, path in _SETTINGS:
        if value := environment.values.get(name, "").strip():
            yield Override(path, value, name)


def platform_environment(platform: str, values: Mapping[str, str]) -> dict[str, str]:
    """The variables that are for the adapter of one platform: ``TELEGRAM_*`` and ``HERMES_TELEGRAM_*``."""
    own = f"{platform.upper()}_"
    return {name: value for name, value in values.items() if name.removeprefix("HERMES_").startswith(own)}


def is_true(text: str) -> bool:
    return text.strip().lower() in _TRUE


def access_of(values: Mapping[str, str]) -> dict[str, Any]:
    """The allow-lists, as `hermesd.supervisor.config.settings.Access` takes them."""
    allowed: dict[str, frozenset[str]] = {}
    allow_all: set[str] = set()
    for name, value in values.items():
        if name.startswith("GATEWAY_"):
            continue
        if name.endswith("_ALLOWED_USERS") and not name.endswith("_GROUP_ALLOWED_USERS"):
            if users := _names(value):
                allowed[name.removesuffix("_ALLOWED_USERS").lower()] = users
        elif name.endswith("_ALLOW_ALL_USERS") and is_true(value):
            allow_all.add(name.removesuffix("_ALLOW_ALL_USERS").lower())
    return {
        "allowed": allowed,
        "allow_all": frozenset(allow_all),
        "gateway_allowed": _names(values.get("GATEWAY_ALLOWED_USERS", "")),
        "gateway_allow_all": is_true(values.get("GATEWAY_ALLOW_ALL_USERS", "")),
    }


def _names(text: str) -> frozenset[str]:
    return frozenset(word for part in text.split(",") if (word := part.strip()))
