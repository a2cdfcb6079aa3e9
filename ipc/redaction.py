"""Blackens secrets in text that is about to be kept: log records, and what MCP servers write to stderr.

Two nets. The secrets that are known by name (variables, configuration keys) are searched for literally; besides, what
has the shape of a credential is blackened whoever it belongs to, for an agent may log one that nobody configured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"

SECRET_LENGTH: Final = 6
"""Secrets shorter than this are not redacted: they would blacken ordinary words."""

SECRET_WORDS: Final = (
    "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY",
    "SERVER_KEY",
)  # fmt: skip
"""What a name of a secret has in it."""

SECRET_PARTS: Final = frozenset({"PAT"})
"""What it has as a whole part, for PATH begins like GITHUB_PAT ends."""

_PASSWORD_IN_URL: Final = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")

_NAMED: Final = (
    r"access[_-]?token|auth[_-]?token|bot[_-]?token|refresh[_-]?token|api[_-]?key|client[_-]?secret|private[_-]?key"
    r"|password|passwd|secret|token"
)

# Texts of which one must be there before the expression is tried, and the expression; its group stays. Most records
# hold none of them, and looking for a text costs a fraction of what trying an expression costs.
_SHAPES: Final[tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = (
    (("uthorization", "UTHORIZATION"), re.compile(
        r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|bot|token)\s+)?)[^\s\"',;]{4,}")),
    (("earer", "EARER"), re.compile(r"(?i)(\bbearer\s+)(?=[\w.~+/-]*\d|[\w.~+/-]{20})[\w.~+/=-]{6,}")),
    (("@",), re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)")),
    (("oken", "OKEN", "ecret", "ECRET", "assw", "ASSW", "_key", "-key", "pikey", "piKey", "KEY"), re.compile(
        rf"(?i)((?:{_NAMED})[\"']?\s*(?:=\s*[\"']?|:\s*[\"']))(?!\[redacted\])[^\s\"'&,;]{{6,}}")),
    ((":AA",), re.compile(r"()(?<!\d)\d{6,12}:AA[A-Za-z0-9_-]{28,}")),  # Telegram's bots, also as /bot123:abc/ in a URL
    (("sk-", "gh", "github_pat_", "xox", "syt_", "AKIA", "AIza", "eyJ"), re.compile(
        r"()\b(?:sk-[\w-]{16,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|xox[abeoprs]-[\w-]{10,}|syt_\w{10,}|AKIA[0-9A-Z]{16}"
        r"|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,})")),
    ((".",), re.compile(r"()\b[MNO][\w-]{23,27}\.[\w-]{6,7}\.[\w-]{27,}")),  # Discord's bots
)  # fmt: skip


def names_a_secret(name: str) -> bool:
    """Whether a variable or a key of this name holds a secret."""
    name = name.upper().replace("-", "_")
    return any(word in name for word in SECRET_WORDS) or not SECRET_PARTS.isdisjoint(name.split("_"))


def secrets_of(environ: Mapping[str, str], more: Iterable[str] = ()) -> tuple[str, ...]:
    """What must not stand in a log, longest first: the values of variables whose names say so, passwords in URLs."""
    named = (value for name, value in environ.items() if names_a_secret(name))
    in_urls = (password for value in environ.values() for password in _PASSWORD_IN_URL.findall(value))
    found = {value for value in (*named, *in_urls, *more) if len(value) >= SECRET_LENGTH}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


class Redactor:
    """Cleans whole texts, so that a secret in an argument, a traceback or an URL is found as well."""

    def __init__(self, secrets: Iterable[str]):
        self._known = frozenset(secret for secret in secrets if len(secret) >= SECRET_LENGTH)
        self._secrets = _forms(self._known)

    def know(self, environ: Mapping[str, str], more: Iterable[str] = ()) -> None:
        """Further secrets, after a reload; the old ones stay, for what runs may still say them."""
        self._known |= frozenset(secrets_of(environ, more))
        self._secrets = _forms(self._known)

    def clean(self, text: str) -> str:
        """The text with ``[redacted]`` in place of every secret."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        for hints, shape in _SHAPES:
            if any(hint in text for hint in hints):
                text = shape.sub(_keep_group, text)
        return text


def _forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every form in which one may stand in a text, longest first: as it is, in JSON, in a URL, in a repr."""
    forms = {
        form
        for secret in secrets
        for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1])
    }
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _keep_group(match: re.Match[str]) -> str:
    return f"{match[1]}{REDACTED}"
