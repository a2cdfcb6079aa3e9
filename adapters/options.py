"""What an adapter is told to do: the environment before the configuration before the default, as in hermes-agent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hermesd.adapters.contract import AdapterSettings, Bursts
from hermesd.adapters.errors import AdapterError

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Options:
    """Reads single options of one adapter. Each method raises `AdapterError` for a value that it does not understand,
    naming where it was written.
    """

    def __init__(self, settings: AdapterSettings):
        self._settings = settings

    def flag(self, key: str, variable: str, default: bool) -> bool:
        """``true`` or ``false``."""
        value, place = self._find(key, variable)
        if value is None or value == "":
            return default
        word = _WORDS.get(str(value).strip().lower())
        if word is None:
            raise AdapterError(f"cannot use {place}: {value!r} is neither true nor false", fix=f"set {place} to true")
        return word

    def text(self, key: str, variable: str, default: str = "") -> str:
        """Any text, without the space around it."""
        value, _ = self._find(key, variable)
        return default if value is None else str(value).strip()

    def number(self, key: str, variable: str, default: float, *, least: float = 0.0) -> float:
        """A number of at least ``least``."""
        value, place = self._find(key, variable)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise AdapterError(f"cannot use {place}: {value!r} is not a number", fix=f"{place}: {default:g}") from None
        if not least <= number < float("inf"):
            raise AdapterError(f"cannot use {place}: {value!r} is less than {least:g}", fix=f"{place}: {default:g}")
        return number

    def names(self, key: str, variable: str, default: Iterable[str] = ()) -> frozenset[str]:
        """A list; in a variable separated by commas or as JSON."""
        value, _ = self._find(key, variable)
        if value is None:
            return frozenset(default)
        return frozenset(_listed(value))

    def patterns(self, key: str, variable: str) -> tuple[str, ...]:
        """The same in its order; a pattern may hold a comma, so a variable holds JSON or a single one."""
        value, _ = self._find(key, variable)
        return () if value is None else tuple(_listed(value, commas=False))

    def bursts(self, cut_from: int) -> Bursts:
        """How long to wait for more of a message; the variables and their defaults are those of hermes-agent."""
        prefix = f"HERMES_{self._settings.name.upper()}"
        return Bursts(
            text=self.number("text_batch_delay", f"{prefix}_TEXT_BATCH_DELAY_SECONDS", 0.6),
            cut=self.number("text_batch_split_delay", f"{prefix}_TEXT_BATCH_SPLIT_DELAY_SECONDS", 2.0),
            cut_from=cut_from,
            album=self.number("media_batch_delay", f"{prefix}_MEDIA_BATCH_DELAY_SECONDS", 0.8),
        )

    def _find(self, key: str, variable: str) -> tuple[Any, str]:
        if variable and (text := self._settings.environ.get(variable, "")):
            return text, variable
        return self._settings.extra.get(key), f"platforms.{self._settings.name}.extra.{key}"


def _listed(value: Any, *, commas: bool = True) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                value = [text]
        else:
            value = text.split(",") if commas else [text]
    if not isinstance(value, list | tuple | set | frozenset):
        value = [value]
    return [word for item in value if (word := str(item).strip())]
