"""The files of a grant, in the place and format of hermes-agent, so that a login with either serves both::

    HERMES_HOME/mcp-tokens/<server>.json          access_token, refresh_token, expires_in, expires_at ...
    HERMES_HOME/mcp-tokens/<server>.client.json   the client as it was registered (RFC 7591)
    HERMES_HOME/mcp-tokens/<server>.meta.json     the authorization server's metadata (RFC 8414)

Ours is the key ``resource`` in the last one; hermes-agent passes it over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .grant import Grant, resource_of

Stamp = tuple[int, int, int]


class Store:
    """Of one home. Reads and writes are of small files, at once."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "mcp-tokens"

    def file_of(self, server: str, kind: str = "") -> Path:
        """``kind``: "", "client" or "meta"."""
        name = re.sub(r"[^\w\-]", "_", server).strip("_")[:128] or "default"
        return self.directory / (f"{name}.{kind}.json" if kind else f"{name}.json")

    def stamp(self, server: str) -> Stamp | None:
        """Changes when somebody writes the tokens; None: there are none."""
        try:
            found = self.file_of(server).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def load(self, server: str, url: str) -> Grant | None:
        """None where there is no usable file. ``url``: the server's, for what the files do not say."""
        tokens, client, meta = self.read(server), self.read(server, "client"), self.read(server, "meta")
        if not isinstance(tokens.get("access_token"), str):
            return None
        lifetime = _number(tokens.get("expires_in"))
        expires_at = _number(tokens.get("expires_at"))
        if lifetime and not expires_at:  # as old versions of hermes-agent wrote them
            with contextlib.suppress(OSError):
                expires_at = self.file_of(server).stat().st_mtime + lifetime
        parts = urlsplit(url)
        return Grant(
            access=tokens["access_token"],
            refresh=str(tokens.get("refresh_token") or ""),
            expires_at=expires_at,
            lifetime=lifetime,
            scope=str(tokens.get("scope") or ""),
            client_id=str(client.get("client_id") or ""),
            client_secret=str(client.get("client_secret") or ""),
            client_auth=str(client.get("token_endpoint_auth_method") or "none"),
            token_endpoint=str(meta.get("token_endpoint") or f"{parts.scheme}://{parts.netloc}/token"),
            resource=str(meta.get("resource") or resource_of(url)),
        )

    def save(self, server: str, grant: Grant) -> None:
        """Write the tokens, whole and on disk when this returns: the old refresh token may be worth nothing by now."""
        tokens: dict[str, Any] = {"access_token": grant.access, "token_type": "Bearer"}
        if grant.lifetime:
            tokens |= {"expires_in": int(grant.lifetime), "expires_at": grant.expires_at}
        if grant.scope:
            tokens["scope"] = grant.scope
        if grant.refresh:
            tokens["refresh_token"] = grant.refresh
        self.write(server, "", tokens)

    def read(self, server: str, kind: str = "") -> dict[str, Any]:
        """One file; empty where it is missing or is no JSON object."""
        try:
            found = json.loads(self.file_of(server, kind).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, server: str, kind: str, values: Mapping[str, Any]) -> None:
        """Replace one file, for its owner's eyes only. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.file_of(server, kind)
        temporary = file.with_name(f"{file.name}.tmp.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                json.dump(values, out, indent=2)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0.0
