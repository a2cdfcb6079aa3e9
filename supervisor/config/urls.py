"""What can be wrong with an MCP server that is reached by url. Looks at files that it names, at nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from .settings import McpServer


def wrong_with(server: McpServer) -> Iterator[tuple[str, str, str]]:
    """Key, what is wrong with it, and what would be right."""
    try:
        parts = urlsplit(server.url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        yield "url", "is not the address of a server", "as https://mcp.example.com/mcp"
    if server.client_key and not server.client_cert:
        yield "client_key", "is a key without a certificate", "add client_cert"
    if server.client_key and len(server.client_cert) > 1:
        yield "client_key", "is there twice: client_cert has a key, too", "keep one of them"
    files = {"client_key": server.client_key}
    if isinstance(server.ssl_verify, str):
        files["ssl_verify"] = server.ssl_verify
    files |= dict(zip(("client_cert", "client_cert.1"), server.client_cert, strict=False))
    for key, file in files.items():
        if file and not os.path.isfile(os.path.expanduser(file)):
            yield key.partition(".")[0], f"{file} is not a file", "name a PEM file that is there"


def texts(server: McpServer) -> Iterator[tuple[tuple[str, ...], str]]:
    """Place and value of what may hold ``${VAR}``."""
    yield ("url",), server.url
    yield from ((("headers", name), value) for name, value in server.headers.items())


def keys_of_urls(server: McpServer) -> Iterator[str]:
    """Those that are set and mean nothing to a server with a command."""
    values = {"headers": server.headers, "transport": server.transport, "auth": server.auth}
    yield from (key for key, value in values.items() if value)
