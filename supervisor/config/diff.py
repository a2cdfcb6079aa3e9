"""What a changed configuration means for a hermesd that runs: the table of keys, and the difference of two readings.

Pure. `supervisor/reloading.py` acts on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args

from pydantic import BaseModel

from .not_yet import NOT_YET
from .settings import Access, Settings


class How(StrEnum):
    """When a changed key applies."""

    LIVE = "live"  # at once, to everything
    NEW_WORKERS = "new_workers"  # to workers that start from now on
    NEXT_IDLE = "next_idle"  # to each worker as soon as it runs no turn, and only to what differs
    RESTART = "restart"  # with the next start of hermesd


_LIVE, _NEW, _IDLE, _RESTART = How.LIVE, How.NEW_WORKERS, How.NEXT_IDLE, How.RESTART

TABLE: Mapping[str, How] = {
    "hermesd.agent": _RESTART,  # the keeper has imported it
    "hermesd.agent_path": _RESTART,
    "hermesd.python": _RESTART,
    "hermesd.agent_settings": _NEW,
    "hermesd.workers.max": _LIVE,
    "hermesd.workers.max_turns": _LIVE,
    "hermesd.workers.spare": _LIVE,
    "hermesd.workers.idle_timeout": _LIVE,
    "hermesd.workers.hang_timeout": _LIVE,
    "hermesd.workers.burn_timeout": _LIVE,
    "hermesd.workers.turn_timeout": _LIVE,
    "hermesd.workers.memory_soft": _LIVE,
    "hermesd.workers.max_age": _LIVE,
    "hermesd.workers.max_turns_per_worker": _LIVE,
    "hermesd.workers.memory_hard": _NEW,
    "hermesd.workers.max_processes": _NEW,
    "hermesd.workers.on_crash": _LIVE,
    "hermesd.workers.env": _NEW,
    "hermesd.workers.start_by": _RESTART,
    "hermesd.workers.endpoint": _RESTART,
    "hermesd.containment": _RESTART,
    "hermesd.stop_budget": _RESTART,
    "hermesd.adopt_timeout": _RESTART,
    "hermesd.busy": _LIVE,
    "hermesd.web": _RESTART,
    "hermesd.log_level": _LIVE,
    "hermesd.logs": _RESTART,
    "agent": _LIVE,  # with the next message, also in workers that run; so are model and approvals
    "model": _LIVE,
    "fallback_providers": _LIVE,
    "fallback_model": _LIVE,
    "approvals": _LIVE,
    "platforms.*": _RESTART,  # one connection for the life of hermesd
    "mcp_servers.*": _IDLE,
    "session_reset": _LIVE,
    "reset_by_type.*": _LIVE,
    "reset_by_platform.*": _LIVE,
    "streaming": _LIVE,
    "group_sessions_per_user": _LIVE,
    "thread_sessions_per_user": _LIVE,
    "access": _LIVE,
}
"""Key ("*": every name there) -> how. The row of a section speaks for all that is in it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that differ, by what becomes of them. One of ``access`` is named by its environment variable."""

    live: tuple[str, ...] = ()
    new_workers: tuple[str, ...] = ()
    next_idle: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    no_effect: tuple[str, ...] = ()  # nothing acts on them in this version

    def __bool__(self) -> bool:
        return bool(self.live or self.new_workers or self.next_idle or self.restart or self.no_effect)


def how_of(pattern: str) -> How:
    """The row of a key, or of the section that it lies in. Raises KeyError where there is none."""
    return TABLE[_row(pattern, TABLE)]


def keys() -> list[str]:
    """Every key of the configuration, "*" for names that its owner chooses."""
    return [pattern for pattern, _ in _leaves(Settings, "")]


def diff(running: Settings, wanted: Settings) -> Changes:
    """``running``: what is in effect, as `hold` made it after an earlier reload."""
    found: dict[How | None, list[str]] = {}
    for key, pattern in _differences(running, wanted, "", ""):
        how = None if _covered(pattern, NOT_YET) else how_of(pattern)
        found.setdefault(how, []).append(key)
    ways = (How.LIVE, How.NEW_WORKERS, How.NEXT_IDLE, How.RESTART, None)
    return Changes(*(tuple(found.get(how, ())) for how in ways))


def hold(running: Settings, wanted: Settings) -> Settings:
    """``wanted`` without what only a restart changes: what is in effect after a reload."""
    held: Settings = _hold(running, wanted, "")
    return held


def _hold(running: Any, wanted: Any, at: str) -> Any:
    changed: dict[str, Any] = {}
    for key, name in _fields(wanted):
        pattern = f"{at}{key}"
        old, new = getattr(running, name), getattr(wanted, name)
        if isinstance(new, BaseModel) and not _covered(pattern, TABLE):
            changed[name] = _hold(old, new, f"{pattern}.")
        elif old != new and how_of(f"{pattern}.*" if f"{pattern}.*" in TABLE else pattern) is How.RESTART:
            changed[name] = old
    return wanted.model_copy(update=changed)


def _differences(running: Any, wanted: Any, at: str, pattern_at: str) -> Iterator[tuple[str, str]]:
    """Each changed key with its pattern; an entry that came or went is one key."""
    for key, name in _fields(wanted):
        old, new = getattr(running, name), getattr(wanted, name)
        if old == new:
            continue
        key, pattern = f"{at}{key}", f"{pattern_at}{key}"
        if isinstance(new, Access):
            yield from ((variable, pattern) for variable in _variables(old, new))
        elif isinstance(new, BaseModel):
            yield from _differences(old, new, f"{key}.", f"{pattern}.")
        elif f"{pattern}.*" in TABLE:
            for entry in sorted({*old, *new}):
                before, after = old.get(entry), new.get(entry)
                if before is None or after is None:
                    yield f"{key}.{entry}", f"{pattern}.*"
                else:
                    yield from _differences(before, after, f"{key}.{entry}.", f"{pattern}.*.")
        else:
            yield key, pattern


def _variables(old: Access, new: Access) -> Iterator[str]:
    """The environment variables behind the allow-lists that differ."""
    for platform in sorted({*old.allowed, *new.allowed}):
        if old.allowed.get(platform) != new.allowed.get(platform):
            yield f"{platform.upper()}_ALLOWED_USERS"
    for platform in sorted(old.allow_all ^ new.allow_all):
        yield f"{platform.upper()}_ALLOW_ALL_USERS"
    if old.gateway_allowed != new.gateway_allowed:
        yield "GATEWAY_ALLOWED_USERS"
    if old.gateway_allow_all != new.gateway_allow_all:
        yield "GATEWAY_ALLOW_ALL_USERS"


def _leaves(model: type[BaseModel], at: str) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        key, annotation = f"{at}{info.alias or name}", info.annotation
        arguments = get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, f"{key}.")
        elif len(arguments) == 2 and isinstance(arguments[1], type) and issubclass(arguments[1], BaseModel):
            yield from _leaves(arguments[1], f"{key}.*.")
        else:
            yield key, annotation


def _fields(section: BaseModel) -> Iterator[tuple[str, str]]:
    """Key and attribute of each field."""
    for name, info in type(section).model_fields.items():
        yield info.alias or name, name


def _row(pattern: str, table: Mapping[str, Any]) -> str:
    """The row that covers a pattern. Raises KeyError."""
    row = pattern
    while row not in table:
        row, dot, _ = row.rpartition(".")
        if not dot:
            raise KeyError(pattern)
    return row


def _covered(pattern: str, table: Mapping[str, Any]) -> bool:
    try:
        _row(pattern, table)
    except KeyError:
        return False
    return True
