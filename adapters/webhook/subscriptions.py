"""``webhook_subscriptions.json`` in the home: the routes that people and hermes-agent make while hermesd runs.

It is read again whenever it has changed. One that is broken changes nothing: the routes that it had before stay, and
what is wrong with it is told.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hermesd.adapters.webhook.routes import BadRoute, RouteSpec

FILE = "webhook_subscriptions.json"
LIMIT = 4 << 20
"""Bytes: a file larger than this was not written by anybody who meant it."""

log = logging.getLogger("hermesd.adapters.webhook")

Parse = Callable[[str, Any], RouteSpec]


class Broken(Exception):
    """The file cannot be used; the text says where and why."""


class Subscriptions:
    """``path`` None: there are none. ``parse`` checks one route."""

    def __init__(self, path: Path | None, parse: Parse):
        self.path = path
        self.routes: Mapping[str, RouteSpec] = {}
        self.problem = ""
        self.ever_read = False  # whether it was usable, or missing, once
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._looked = False

    def refresh(self) -> None:
        """Read it if it has changed. Called with every request: one ``stat`` when nothing has."""
        seen = self._look()
        if self._looked and seen == self._seen:
            return
        self._looked, self._seen = True, seen
        try:
            routes = {name: self._parse(name, value) for name, value in self.read().items()}
        except (Broken, BadRoute) as error:
            # A route that means nothing makes the file one that somebody has not finished writing.
            self.problem = str(error) if isinstance(error, Broken) else f"{self.path}: {error}"
            log.error("%s; the routes that it had before stay", self.problem)
            return
        if self.problem or routes != self.routes:
            log.info("routes of %s: %s", self.path, ", ".join(routes) or "none")
        self.routes, self.problem, self.ever_read = routes, "", True

    def read(self) -> dict[str, Any]:
        """What the file holds now; nothing without one. Raises `Broken`."""
        if self.path is None:
            return {}
        try:
            with self.path.open("rb") as file:
                raw = file.read(LIMIT + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Broken(f"{self.path} cannot be read: {error.strerror}") from error
        if len(raw) > LIMIT:
            raise Broken(f"{self.path} is larger than {LIMIT} bytes")
        try:
            held = json.loads(raw.decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            raise Broken(f"{self.path}, line {error.lineno}: broken JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise Broken(f"{self.path} is no JSON: {error}") from error
        if not isinstance(held, dict):
            raise Broken(f"{self.path} is not a JSON object of routes by their names")
        return held

    def write(self, held: Mapping[str, Any]) -> None:
        """Put this in its place, whole or not at all; nobody else may read it, for it holds secrets. Raises OSError."""
        assert self.path is not None
        number, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=self.path.parent)  # made with mode 0600
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(held, file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat() if self.path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
