"""What ``platforms.webhook`` and ``WEBHOOK_*`` say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hermesd.adapters import hosts
from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.options import Options
from hermesd.adapters.webhook.routes import NO_SECRET, BadRoute, RouteSpec, parse
from hermesd.adapters.webhook.subscriptions import FILE

PORT = 8644
MIB = 1 << 20
CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Settings of the server; `read` makes them. ``secret`` is that of routes without one of their own."""

    host: str = "127.0.0.1"
    port: int = PORT  # 0: any free one
    secret: str = field(default="", repr=False)
    routes: Mapping[str, RouteSpec] = field(default_factory=dict)
    rate_limit: int = 30  # requests a minute for each route
    max_body: int = MIB  # bytes
    allowed_hosts: frozenset[str] = frozenset()
    subscriptions: Path | None = None

    @property
    def on_loopback(self) -> bool:
        return hosts.is_loopback(self.host)


def read(settings: AdapterSettings) -> WebhookOptions:
    """Check them. Raises `AdapterError` with the key and why."""
    options, extra = Options(settings), settings.extra
    host = hosts.to_bind(options.text("host", "WEBHOOK_HOST"))
    port = options.number("port", "WEBHOOK_PORT", PORT)
    if port != int(port) or port > 65535:
        raise AdapterError(f"cannot use port {port:g}: it is no port", fix=f"WEBHOOK_PORT={PORT}")
    secret = options.text("secret", "WEBHOOK_SECRET")
    home = str(extra.get("home") or "")
    return WebhookOptions(
        host=host,
        port=int(port),
        secret=secret,
        routes=_routes(extra.get("routes"), secret, host),
        rate_limit=int(options.number("rate_limit", "", 30, least=1)),
        max_body=int(options.number("max_body_bytes", "", MIB, least=1)),
        allowed_hosts=frozenset(name.lower() for name in options.names("allowed_hosts", "")),
        subscriptions=Path(home) / FILE if home else None,
    )


def _routes(value: object, secret: str, host: str) -> dict[str, RouteSpec]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AdapterError("cannot use platforms.webhook.extra.routes: it is not a mapping of routes by their names")
    on_loopback = hosts.is_loopback(host)
    try:
        routes = {
            str(name): parse(str(name), written, source=CONFIG, secret=secret, on_loopback=on_loopback)
            for name, written in value.items()
        }
    except BadRoute as error:
        raise AdapterError(f"cannot use platforms.webhook.extra.routes: {error}") from error
    if open_ones := [name for name, route in routes.items() if not on_loopback and not route.secret]:
        raise AdapterError(
            f"cannot take webhooks on {host} without a secret on every route: {', '.join(open_ones)} has none, and "
            "everybody who reaches that address could use the agent",
            fix=f"give each a secret (not {NO_SECRET}), or set WEBHOOK_SECRET, or host: 127.0.0.1",
        )
    return routes
