"""What the configuration says about the server, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hermesd.adapters import hosts
from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the API server; `read` makes them."""

    host: str = "127.0.0.1"
    port: int = 8642  # 0: any free one, told by ``describe()``
    key: str = field(default="", repr=False)
    cors_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()  # more names that a Host header may carry, for a reverse proxy
    model_name: str = "hermes-agent"
    media_dir: Path | None = None
    max_body: int = MIB  # bytes
    max_image: int = 5 * MIB  # bytes of one decoded image
    request_timeout: float | None = None  # seconds from request to answer

    @property
    def on_loopback(self) -> bool:
        return hosts.is_loopback(self.host)


def read(settings: AdapterSettings) -> Options:
    """Check ``extra`` (its values may be strings, from the environment). Raises `AdapterError` with the key and why."""
    extra = settings.extra
    timeout = _number(extra, "request_timeout", 0, largest=7 * 86400)
    options = Options(
        host=hosts.to_bind(extra.get("host")),
        port=int(_number(extra, "port", 8642, largest=65535)),
        key=str(extra.get("key") or settings.api_key or settings.token or ""),
        cors_origins=_words(extra, "cors_origins"),
        allowed_hosts=frozenset(host.lower() for host in _words(extra, "allowed_hosts")),
        model_name=str(extra.get("model_name") or "hermes-agent"),
        media_dir=Path(str(extra["media_dir"])) if extra.get("media_dir") else None,
        max_body=int(_number(extra, "max_body", MIB, smallest=1024, largest=1024 * MIB)),
        max_image=int(_number(extra, "max_image", 5 * MIB, smallest=1, largest=1024 * MIB)),
        request_timeout=timeout or None,
    )
    if not options.key and not options.on_loopback:
        raise AdapterError(
            f"cannot serve the API on {options.host} without a key: everybody who reaches that address could use the "
            "agent",
            fix="set API_SERVER_KEY (platforms.api_server.api_key), or host: 127.0.0.1",
        )
    if not options.key and "*" in options.cors_origins:
        raise AdapterError(
            "cannot allow every origin (cors_origins: '*') without a key: any web page could use the agent",
            fix="set API_SERVER_KEY (platforms.api_server.api_key), or name the origins",
        )
    return options


def _number(extra: Mapping[str, Any], key: str, default: float, *, smallest: float = 0, largest: float) -> float:
    value = extra.get(key)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not smallest <= number <= largest:
        raise AdapterError(
            f"platforms.api_server.extra.{key} is {value!r}: expected a number from {smallest:g} to {largest:g}"
        )
    return number


def _words(extra: Mapping[str, Any], key: str) -> frozenset[str]:
    """A list, or one string with commas as an environment variable has it."""
    value = extra.get(key) or ()
    words = value.split(",") if isinstance(value, str) else list(value)
    return frozenset(str(word).strip().rstrip("/") for word in words if str(word).strip())
