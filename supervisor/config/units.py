"""Sizes (``512M``) and durations (``30m``) as people write them, and the field types made of them.

Inside, a size is a whole number of bytes and a duration a number of seconds.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_SIZE_STEP = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d)?\s*", re.IGNORECASE)
_DURATION_STEP = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NO_LIMIT = frozenset({"none", "off", "unlimited", "no"})


def parse_size(text: str) -> int:
    """``"1.5G"`` -> bytes; K, M, G and T are powers of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * _SIZE_STEP[match[2].lower()])


def parse_duration(text: str) -> float:
    """``"1h30m"`` or ``"90"`` -> seconds. Raises ValueError."""
    text = text.strip()
    total, at = 0.0, 0
    for match in _DURATION.finditer(text):
        bare = match[2] is None
        if match.start() != at or (bare and match[0] != text):
            break
        total += float(match[1]) * _DURATION_STEP[(match[2] or "s").lower()]
        at = match.end()
    if not text or at != len(text):
        raise ValueError(f"not a duration: {text!r}")
    return total


def _custom(kind: str, message: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{message}", {"message": message, "fix": fix})


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return int(value)
    if isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError:
            pass  # said below, in one way for all values
    raise _custom("size", "is not a size", "use 512M, 2G ...")


def _limit(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_LIMIT):
        return None
    try:
        return _size(value)
    except PydanticCustomError as error:
        raise _custom("size", "is not a size", "use 512M, 2G ... or none for no limit") from error


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError:
            pass  # said below, in one way for all values
    raise _custom("duration", "is not a duration", "use 10s, 30m, 1h ...")


def _no_bool(value: Any) -> Any:
    # To Python, true is the number 1; to the one who wrote it, it is not.
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "not a number")
    return value


def _count_limit(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in _NO_LIMIT:
        return None
    return _no_bool(value)


def _text(value: Any) -> Any:
    """A number where a text is wanted is taken as it was written (``PORT: 8080``, ``VERSION: 1.10``)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return getattr(value, "source", str(value))
    return value


def _texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_size, json_schema_input_type=str | int)]
BytesLimit = Annotated[int | None, BeforeValidator(_limit, json_schema_input_type=str | int | None)]
Seconds = Annotated[float, BeforeValidator(_duration, json_schema_input_type=str | float)]
Count = Annotated[int, BeforeValidator(_no_bool)]
CountLimit = Annotated[int | None, BeforeValidator(_count_limit)]
Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_texts)]
