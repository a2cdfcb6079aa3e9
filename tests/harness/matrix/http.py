"""JSON over HTTP with the standard library: one connection, kept open."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT = 120.0


class Refused(AssertionError):
    """The server did not do it; ``code`` is Matrix' word for why."""

    def __init__(self, status: int, answer: bytes):
        super().__init__(f"status {status}: {answer[:500]!r}")
        self.status = status
        with contextlib.suppress(ValueError):
            self.code = str(json.loads(answer).get("errcode", ""))


class Http:
    """One server. One thread at a time."""

    def __init__(self, url: str, token: str = ""):
        parts = urlsplit(url)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def close(self) -> None:
        self._connection.close()

    def raw(
        self, method: str, path: str, body: bytes = b"", mime: str = "application/json", **parameters: Any
    ) -> tuple[bytes, str]:
        """The answer and its MIME type. Raises `Refused` for any status but 200."""
        target = quote(path, safe="/%") + (f"?{urlencode(parameters)}" if parameters else "")
        headers = {**self._headers, "Content-Type": mime}
        try:
            self._connection.request(method, target, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            # The server has closed the connection that was kept, or was started anew.
            self._connection.close()
            self._connection.request(method, target, body, headers)
            response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise Refused(response.status, answer)
        return answer, response.headers.get("Content-Type", "")

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        return json.loads(self.raw(method, path, content, **parameters)[0])
